"""What one kind of engine was measured to do with one model: its speed, and the size of its caches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from prfaas.errors import ConfigError
from prfaas.planner.curve import FIT_TOLERANCE, Curve, PiecewiseLinear, Quadratic, fit_error, least_squares
from prfaas.planner.decode import DecodeProfile
from prfaas.routing.figures import CacheSize, PrefillRate

Between = Literal["linear", "quadratic"]
"""What is assumed between measured points: straight lines, or the quadratic with the least squares."""

SLOWEST_PREFILL_S = 600.0
"""No request waits this long for its first token: such a figure is in milliseconds."""
SLOWEST_TOKENS_S = 20.0
"""At the longest length; an engine below it cannot serve prompts, and most are below it in milliseconds."""


@dataclass(frozen=True, slots=True)
class EngineProfile:
    """An engine kind's figures for one model.

    Attributes:
        name: what to call it in plans and errors.
        prefill: seconds until a prompt of so many uncached tokens is prefilled, with nothing waiting before it.
        cache: bytes of that prompt's cache on the wire, attention KV and recurrent state together.
        decode: None for an engine that never decodes.
        caveats: what of this was not measured, in words for whoever reads the plan.
    """

    name: str
    prefill: Curve
    cache: Curve
    decode: DecodeProfile | None = None
    caveats: tuple[str, ...] = ()

    def prefill_rate(self) -> PrefillRate:
        """The prefill as the router knows it (``engines.*.prefill`` in the configuration), fitted where need be."""
        fitted = _quadratic(self.prefill)
        return PrefillRate(fitted.fixed, fitted.linear, fitted.quadratic)

    def cache_size(self) -> CacheSize:
        """The cache as the router knows it (``policy.cache``), fitted where need be."""
        fitted = _quadratic(self.cache, is_linear=True)
        return CacheSize(fitted.linear, fitted.fixed)


def prefill_curve(tokens: Sequence[float], seconds: Sequence[float], between: Between = "linear") -> Curve:
    """From measured prefills. Raises ConfigError for points that cannot be right or are too few."""
    _check_points("prefill", "s", tokens, seconds)
    if seconds[-1] > SLOWEST_PREFILL_S or tokens[-1] / seconds[-1] < SLOWEST_TOKENS_S:
        raise ConfigError(
            f"prefill: {seconds[-1]:g} s for {tokens[-1]:g} tokens: slower than {SLOWEST_TOKENS_S:g} tokens a second "
            f"or than {SLOWEST_PREFILL_S:g} s in all; are these milliseconds, or tokens in thousands?"
        )
    return _curve("prefill", tokens, seconds, between)


def cache_curve(tokens: Sequence[float], sizes_bytes: Sequence[float], between: Between = "linear") -> Curve:
    """From measured caches. Raises ConfigError for points that cannot be right or are too few."""
    _check_points("cache", "bytes", tokens, sizes_bytes)
    if sizes_bytes[0] < tokens[0]:
        raise ConfigError(
            f"cache: {sizes_bytes[0]:g} bytes for {tokens[0]:g} tokens: less than a byte a token; are these MiB?"
        )
    return _curve("cache", tokens, sizes_bytes, between)


def _check_points(what: str, unit: str, tokens: Sequence[float], values: Sequence[float]) -> None:
    if len(tokens) != len(values) or len(tokens) < 2:
        raise ConfigError(
            f"{what}: {len(tokens)} point: nothing says how it grows with the prompt: measure two lengths or more, the "
            "longest as long as the longest prompts"
        )
    if not np.isfinite([*tokens, *values]).all() or tokens[0] < 1 or min(values) <= 0:
        raise ConfigError(f"{what}: {tuple(values)} {unit} at {tuple(tokens)} tokens: all have to be above 0")
    for index in range(1, len(tokens)):
        (x1, x2), (y1, y2) = tokens[index - 1 : index + 1], values[index - 1 : index + 1]
        if x2 <= x1:
            raise ConfigError(f"{what}: {x2:g} tokens after {x1:g}: points have to ascend, each length once")
        if y2 < y1:
            raise ConfigError(
                f"{what}: {y1:g} {unit} at {x1:g} tokens and only {y2:g} {unit} at {x2:g}: longer prompts are never "
                "less work: measure again, with more repetitions"
            )


def _curve(what: str, tokens: Sequence[float], values: Sequence[float], between: Between) -> Curve:
    if between == "linear":
        return PiecewiseLinear(tuple(tokens), tuple(values))
    curve = least_squares(tokens, values)
    if (error := fit_error(curve, tokens, values)) > FIT_TOLERANCE:
        raise ConfigError(
            f"{what}: the best quadratic is off by {error:.0%} at a point: say 'between: linear', or measure again"
        )
    return curve


def _quadratic(curve: Curve, *, is_linear: bool = False) -> Quadratic:
    if isinstance(curve, Quadratic):
        return curve
    assert isinstance(curve, PiecewiseLinear)
    return least_squares(curve.tokens, curve.values, is_linear=is_linear)
