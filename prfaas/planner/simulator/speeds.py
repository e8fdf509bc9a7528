"""A profile's figures, one at a time and fast: the simulator asks for a few with every request."""

import bisect
from collections.abc import Callable

import numpy as np

from prfaas.errors import ConfigError
from prfaas.planner.curve import EXTRAPOLATION, Curve, PiecewiseLinear, Quadratic
from prfaas.planner.decode import DecodeProfile

Scalar = Callable[[float], float]


def scalar(curve: Curve) -> Scalar:
    """The curve as a function of one length. Raises ConfigError too far beyond what was measured, as the curve does."""
    if isinstance(curve, Quadratic):
        return _quadratic(curve)
    if isinstance(curve, PiecewiseLinear):
        return _piecewise(curve)
    return lambda tokens: float(curve.at(np.array([tokens]))[0])


def prefill_seconds(curve: Curve) -> Callable[[int, int], float]:
    """Seconds of ``tokens`` uncached tokens that follow ``context`` cached ones: what the whole takes more than its
    beginning, and what any prefill takes. With a quadratic that is the router's ``PrefillRate.seconds``."""
    at = scalar(curve)
    fixed_s = at(0)

    def seconds(tokens: int, context: int) -> float:
        return at(tokens) if not context else at(context + tokens) - at(context) + fixed_s

    return seconds


def step_table(decode: DecodeProfile | None, batch: int) -> list[float]:
    """Seconds of a step by the requests in it, from 0 to ``batch``; a single 0 for an engine that never decodes."""
    if decode is None:
        return [0.0]
    if not 1 <= batch <= decode.batch[-1]:
        raise ConfigError(f"batch: {batch}: the decode profile has been measured from 1 to {decode.batch[-1]} requests")
    return [0.0, *np.interp(np.arange(1, batch + 1), decode.batch, decode.step_s).tolist()]


def _quadratic(curve: Quadratic) -> Scalar:
    fixed, linear, quadratic, longest = curve.fixed, curve.linear, curve.quadratic, EXTRAPOLATION * curve.longest_tokens

    def at(tokens: float) -> float:
        if tokens > longest:
            curve.at(np.array([tokens]))
        return fixed + (linear + quadratic * tokens) * tokens

    return at


def _piecewise(curve: PiecewiseLinear) -> Scalar:
    xs, ys, longest = curve.tokens, curve.values, EXTRAPOLATION * curve.longest_tokens
    slopes = [(y2 - y1) / (x2 - x1) for x1, x2, y1, y2 in zip(xs, xs[1:], ys, ys[1:], strict=False)]

    def at(tokens: float) -> float:
        if tokens <= xs[0]:
            return ys[0]
        if tokens > longest:
            curve.at(np.array([tokens]))
        below = min(bisect.bisect_right(xs, tokens), len(slopes)) - 1
        return ys[below] + slopes[below] * (tokens - xs[below])

    return at
