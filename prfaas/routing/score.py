"""How well an engine suits a request: scorers in [0, 1], summed by their weights."""

from collections.abc import Sequence

from prfaas.routing.policy import Weights
from prfaas.routing.snapshot import EngineState, LinkState

QUEUE_TOKENS = 8192
"""So many waiting tokens halve the queue's score: about one engine step of a large batch, after which a request
notices that it waits."""


def scores(
    engines: Sequence[EngineState],
    hits: Sequence[int],
    tokens: int,
    weights: Weights,
    links: Sequence[LinkState] | None = None,
) -> list[float]:
    """Of each engine, larger is better; in few loops, because every decision looks at all of them.

    Args:
        hits: what each engine has of the prompt.
        tokens: length of the prompt, 0 when unknown.
        links: to each engine's site, None for engines of this one.
    """
    load, queue = weights.load, weights.queue * QUEUE_TOKENS
    found = [load * load_score(engine) + queue / (QUEUE_TOKENS + engine.waiting_tokens) for engine in engines]
    if any(hits):
        pairs = zip(found, hits, strict=True)
        found = [total + weights.prefix * hit / tokens if hit else total for total, hit in pairs]
    if links is None:
        return found
    return [total + weights.link * link_score(link) for total, link in zip(found, links, strict=True)]


def load_score(engine: EngineState) -> float:
    """1 when idle; 0 when full, where the capacity is known."""
    if engine.capacity is None:
        return 1.0 / (1 + engine.inflight)
    return max(0.0, 1.0 - engine.inflight / engine.capacity)


def link_score(link: LinkState) -> float:
    """1 for an idle link, at most a half for a scarce one."""
    idle = max(0.0, 1.0 - link.utilisation)
    return 0.5 * idle if link.is_scarce else idle
