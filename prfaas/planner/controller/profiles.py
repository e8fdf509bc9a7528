"""Which figures of engines a plan is made with.

A profile was measured with nothing else going on; the gateway measures what its engines do at work. Where both are
known the profile gives the shape, and the engines at work the scale: how many times as long the prefill of a prompt of
mean length takes. Where there is no profile, what the router knows of the engines has to do.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from prfaas.planner.curve import EXTRAPOLATION, Curve, FloatArray, Quadratic
from prfaas.planner.decode import MAX_BATCH, DecodeProfile
from prfaas.planner.profile import EngineProfile
from prfaas.routing.figures import CacheSize, PrefillRate
from prfaas.routing.snapshot import EngineState

LEAST_S = 1e-6
"""Of any prefill: the model divides by it."""
UNKNOWN_DECODE = DecodeProfile((MAX_BATCH,), (1e-6,))
"""Never binds. Without a decode profile no division is judged, only t."""
LEAST_BYTES = 1e-3
"""Of any cache, for the same reason. One of unknown size is as small: no link is too narrow for it, but queues tell."""
TRUSTED_FACTOR = 4.0
"""Engines at work are no further than this from their profile, either way: else it is another engine's."""


@dataclass(frozen=True, slots=True)
class Kinds:
    """The kinds of engines in a plan.

    Attributes:
        remote: None while no remote engine's speed is known.
        knows_decode: whether the local profile says how fast engines decode.
        factors: seconds of a prefill as measured at work, by the profile's; local and remote.
    """

    local: EngineProfile
    remote: EngineProfile | None
    knows_decode: bool
    factors: tuple[float, float] = (1.0, 1.0)

    @property
    def longest_tokens(self) -> float:
        """Up to which the profiles answer."""
        curves = [self.local.prefill]
        if self.remote is not None:
            curves += [self.remote.prefill, self.remote.cache]
        return min(EXTRAPOLATION * each.longest_tokens for each in curves)


@dataclass(frozen=True, slots=True)
class Scaled:
    """A curve, so many times as high."""

    curve: Curve
    factor: float

    @property
    def longest_tokens(self) -> float:
        return self.curve.longest_tokens

    def at(self, tokens: FloatArray) -> FloatArray:
        return np.asarray(self.curve.at(tokens) * self.factor, np.float64)


def kinds_of(
    local: EngineProfile | None,
    remote: EngineProfile | None,
    here: Sequence[EngineState],
    there: Sequence[EngineState],
    cache: CacheSize | None,
    mean_tokens: float,
) -> Kinds | None:
    """From profiles and from the speeds of these engines and the cache's size; None while no local speed is known.

    Args:
        mean_tokens: the length at which engines at work are held against their profile.
    """
    found, factor = _known("local engines", local, here, cache, mean_tokens)
    if found is None:
        return None
    remotely, remote_factor = _known("remote engines", remote, there, cache, mean_tokens)
    knows_decode = found.decode is not None
    decoding = found if knows_decode else replace(found, decode=UNKNOWN_DECODE)
    return Kinds(decoding, remotely, knows_decode, (factor, remote_factor))


def _known(
    name: str, profile: EngineProfile | None, engines: Sequence[EngineState], cache: CacheSize | None, tokens: float
) -> tuple[EngineProfile | None, float]:
    rates = [engine.prefill for engine in engines if engine.prefill is not None]
    if profile is None:
        return (_profile(name, rates, cache) if rates else None), 1.0
    measured = [rate for rate in rates if rate.source == "measured"]
    if not measured:
        return profile, 1.0
    at = np.array([min(tokens, EXTRAPOLATION * profile.prefill.longest_tokens)])
    factor = float(_mean(measured).at(at)[0] / profile.prefill.at(at)[0])
    factor = min(max(factor, 1 / TRUSTED_FACTOR), TRUSTED_FACTOR)
    return replace(profile, prefill=Scaled(profile.prefill, factor)), factor


def _profile(name: str, rates: Sequence[PrefillRate], cache: CacheSize | None) -> EngineProfile:
    size = Quadratic(LEAST_BYTES, 0.0)
    if cache is not None:
        size = Quadratic(max(cache.state_bytes, LEAST_BYTES), max(cache.bytes_per_token, 0.0))
    return EngineProfile(name, _mean(rates), size)


def _mean(rates: Sequence[PrefillRate]) -> Quadratic:
    parts = zip(*((rate.fixed_s, rate.s_per_token, rate.s_per_token2) for rate in rates), strict=True)
    fixed, linear, quadratic = (max(sum(part) / len(rates), 0.0) for part in parts)
    return Quadratic(max(fixed, LEAST_S), linear, quadratic)
