"""Which figures of engines a plan is made with: measured profiles where there are some, else what the router knows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from prfaas.planner.curve import EXTRAPOLATION, Curve, Quadratic
from prfaas.planner.decode import MAX_BATCH, DecodeProfile
from prfaas.planner.profile import EngineProfile
from prfaas.routing.figures import CacheSize
from prfaas.routing.snapshot import EngineState

LEAST_S = 1e-6
"""Of any prefill: the model divides by it."""
UNKNOWN_DECODE = DecodeProfile((MAX_BATCH,), (1e-6,))
"""Never binds. Without a decode profile no division is judged, only t."""
NO_BYTES = Quadratic(1e-3, 0.0)
"""A cache of unknown size, for which no link is too narrow; queues then tell when it is."""


@dataclass(frozen=True, slots=True)
class Kinds:
    """The kinds of engines in a plan.

    Attributes:
        remote: None while no remote engine's speed is known.
        knows_decode: whether the local profile says how fast engines decode.
    """

    local: EngineProfile
    remote: EngineProfile | None
    knows_decode: bool

    @property
    def longest_tokens(self) -> float:
        """Up to which the profiles answer."""
        curves = [self.local.prefill]
        if self.remote is not None:
            curves += [self.remote.prefill, self.remote.cache]
        return min(EXTRAPOLATION * each.longest_tokens for each in curves)


def kinds_of(
    local: EngineProfile | None,
    remote: EngineProfile | None,
    here: Sequence[EngineState],
    there: Sequence[EngineState],
    cache: CacheSize | None,
) -> Kinds | None:
    """From profiles, or from the speeds of these engines and the cache's size; None while no local speed is known."""
    size = NO_BYTES if cache is None else Quadratic(max(cache.state_bytes, 1e-3), max(cache.bytes_per_token, 0.0))
    found = local or _learnt("local engines", here, size)
    if found is None:
        return None
    knows_decode = found.decode is not None
    known = found if knows_decode else replace(found, decode=UNKNOWN_DECODE)
    return Kinds(known, remote or _learnt("remote engines", there, size), knows_decode)


def _learnt(name: str, engines: Iterable[EngineState], cache: Curve) -> EngineProfile | None:
    """The mean of the speeds that are known."""
    rates = [engine.prefill for engine in engines if engine.prefill is not None]
    if not rates:
        return None
    fixed, linear, quadratic = (
        sum(parts) / len(rates)
        for parts in zip(*((rate.fixed_s, rate.s_per_token, rate.s_per_token2) for rate in rates), strict=True)
    )
    return EngineProfile(name, Quadratic(max(fixed, LEAST_S), max(linear, 0.0), max(quadratic, 0.0)), cache)
