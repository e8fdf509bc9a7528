"""Brown-out: a long prompt that only an engine with many running answers could prefill is refused.

Its chunks would take turns with the decode steps of all those answers: everyone would be late, not one request.
"""

import math

from prfaas.routing.placement import Refusal
from prfaas.routing.policy import BrownOut
from prfaas.routing.snapshot import EngineState

MIN_RETRY_S, MAX_RETRY_S = 1.0, 30.0
"""Sooner changes nothing; later is a guess about a fleet that may have recovered."""


def is_starving(engine: EngineState, limits: BrownOut) -> bool:
    """Whether a long prefill on the decode engine would starve the answers that run there."""
    load, waiting = limits.decode_load, limits.waiting_tokens
    is_full = load is not None and engine.decode_load is not None and engine.decode_load >= load
    return is_full or (waiting is not None and engine.waiting_tokens >= waiting)


def brown_out(engine: EngineState, uncached_tokens: int, why_not_remote: tuple[str, ...]) -> Refusal:
    """Refuse with the time in which the engine's queue gets empty."""
    queue_s = engine.prefill.queue_seconds(engine.waiting_tokens) if engine.prefill else 0.0
    load = "unknown" if engine.decode_load is None else f"{engine.decode_load:.2f}"
    reason = (
        f"brown-out: computing {uncached_tokens} tokens would starve decoding on {engine.name} (decode load {load}, "
        f"{engine.waiting_tokens} tokens waiting)"
    )
    return Refusal(
        status=429,
        retry_after_s=math.ceil(min(max(queue_s, MIN_RETRY_S), MAX_RETRY_S)),
        reason="; ".join((*why_not_remote, reason)),
        message="The engines are too busy for a prompt of this length; try again.",
    )
