"""How well an engine suits a request: scorers in [0, 1], summed by their weights."""

from prfaas.routing.policy import Weights
from prfaas.routing.snapshot import EngineState, LinkState

QUEUE_TOKENS = 8192
"""So many waiting tokens halve the queue's score: about one engine step of a large batch, after which a request
notices that it waits."""


def score(engine: EngineState, tokens: int, hit: int, weights: Weights, link: LinkState | None = None) -> float:
    """Larger is better. ``tokens`` is the length of the prompt, 0 when unknown; ``hit`` what the engine has of it."""
    total = weights.load * load_score(engine) + weights.queue * QUEUE_TOKENS / (QUEUE_TOKENS + engine.waiting_tokens)
    if hit:
        total += weights.prefix * hit / tokens
    if link is not None:
        total += weights.link * link_score(link)
    return total


def load_score(engine: EngineState) -> float:
    """1 when idle; 0 when full, where the capacity is known."""
    if engine.capacity is None:
        return 1.0 / (1 + engine.inflight)
    return max(0.0, 1.0 - engine.inflight / engine.capacity)


def link_score(link: LinkState) -> float:
    """1 for an idle link, at most a half for a scarce one."""
    idle = max(0.0, 1.0 - link.utilisation)
    return 0.5 * idle if link.is_scarce else idle
