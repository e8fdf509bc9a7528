"""How fast an engine prefills, learnt from its busy periods: seconds = fixed_s + s_per_token * tokens.

A line by the median of the slopes between two periods each (Theil and Sen): a quarter of them may be far off (a
compile, a preemption, somebody else's prompts) and the line stays. Pairs count by how far apart they are, so
that the few long prompts decide what is said of long prompts.
"""

from collections import deque

import numpy as np
import numpy.typing as npt

MAX_SAMPLES = 64
"""The last ones: minutes of traffic, so that another load or another build is learnt."""
MIN_SAMPLES = 8
"""Fewer are an accident: an engine's first prompts compile and fill caches."""
REFIT_SAMPLES = 4
"""A line through 64 samples costs the event loop 0.2 ms; nothing changes much with a single one."""
MIN_TOKENS = 256
"""Less tells of the overhead of a step rather than of the speed."""
MIN_SPREAD = 0.3
"""Pairs whose lengths differ by less, as a share of the longer one, give noise for a slope."""
MIN_PAIRS = 16
"""More than one odd sample makes with the fewest others."""

Floats = npt.NDArray[np.float64]


class PrefillSpeed:
    """The speed of one engine.

    Attributes:
        parts: fixed seconds and seconds per token, neither negative; None until enough is known.
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque(maxlen=MAX_SAMPLES)
        self._fresh = 0
        self.parts: tuple[float, float] | None = None

    def add(self, tokens: int, seconds: float) -> None:
        """So many tokens took so many seconds; negative ones count as none."""
        if tokens < MIN_TOKENS:
            return
        self._samples.append((tokens, max(seconds, 0.0)))
        self._fresh += 1
        if len(self._samples) >= MIN_SAMPLES and (self.parts is None or self._fresh >= REFIT_SAMPLES):
            self._fresh = 0
            self.parts = _line(*np.array(self._samples).T)


def _line(tokens: Floats, seconds: Floats) -> tuple[float, float]:
    """Samples of about one length give a straight line through nothing: right for that length."""
    steepest = _median(seconds / tokens, tokens)
    one, other = np.triu_indices(len(tokens), 1)
    steps = tokens[other] - tokens[one]
    is_far = np.abs(steps) >= MIN_SPREAD * np.maximum(tokens[one], tokens[other])
    if np.count_nonzero(is_far) < MIN_PAIRS:
        return 0.0, steepest
    slopes = (seconds[other] - seconds[one])[is_far] / steps[is_far]
    slope = min(max(_median(slopes, np.abs(steps[is_far])), 0.0), steepest)
    fixed_s = float(np.median(seconds - slope * tokens))
    return min(max(fixed_s, 0.0), float(seconds.min())), slope


def _median(values: Floats, weights: Floats) -> float:
    order = np.argsort(values)
    until = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(until, until[-1] / 2)]])
