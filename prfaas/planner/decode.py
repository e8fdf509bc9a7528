"""How an engine decodes: the seconds of a step against the requests in it, and the batch that an objective allows."""

from dataclasses import dataclass

import numpy as np

from prfaas.errors import ConfigError

MAX_BATCH = 65_536
"""Far above any engine's ``max_num_seqs``; every batch up to the largest measured one is tried."""
SLOWEST_STEP_S = 5.0
"""Nobody reads a fifth of a token a second: such a figure is in milliseconds."""


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """The batch that an engine decodes with: BS_max requests, each of which gets a token every ``step_s``."""

    batch: int
    step_s: float


@dataclass(frozen=True, slots=True)
class DecodeProfile:
    """Measured steps: ``step_s[i]`` seconds with ``batch[i]`` requests, ascending.

    Between the points steps are interpolated linearly. A smaller batch than the smallest measured takes as long as that
    one, and a larger one than the largest is never assumed: the engine's memory may end there. So one point is enough.

    Raises:
        ConfigError: batches that do not ascend, steps that fall, units that cannot be right.
    """

    batch: tuple[int, ...]
    step_s: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.batch or len(self.batch) != len(self.step_s):
            raise ConfigError("decode: no points: measure the seconds of a step for one batch or more")
        if self.batch[0] < 1 or self.batch[-1] > MAX_BATCH or not np.all(np.diff(self.batch) > 0):
            raise ConfigError(f"decode: batches {self.batch}: have to ascend, from 1 to at most {MAX_BATCH}")
        if not all(0 < each <= SLOWEST_STEP_S for each in self.step_s):
            raise ConfigError(
                f"decode: steps of {min(self.step_s):g} to {max(self.step_s):g} s: have to be above 0 and at most "
                f"{SLOWEST_STEP_S:g}; are these milliseconds?"
            )
        for index in np.flatnonzero(np.diff(self.step_s) < 0):
            raise ConfigError(
                f"decode: a step takes {self.step_s[index]:g} s with {self.batch[index]} requests and only "
                f"{self.step_s[index + 1]:g} s with {self.batch[index + 1]}: measure again"
            )

    def seconds(self, batch: int) -> float:
        """Of a step with so many requests, at most the largest batch that was measured."""
        if batch > self.batch[-1]:
            raise ConfigError(f"decode: a batch of {batch}: measured is {self.batch[-1]} at most")
        return float(np.interp(batch, self.batch, self.step_s))

    def operating_point(self, token_s: float) -> OperatingPoint:
        """The batch with the most tokens a second among those whose step takes ``token_s`` at most.

        Raises:
            ConfigError: even the smallest step is too slow.
        """
        batches = np.arange(1, self.batch[-1] + 1)
        steps_s = np.interp(batches, self.batch, self.step_s)
        allowed = steps_s <= token_s * (1 + 1e-9)
        if not allowed.any():
            raise ConfigError(
                f"an objective of {token_s:g} s a token: this engine's fastest step takes {self.step_s[0]:g} s: allow "
                "that much, or measure smaller batches"
            )
        best = int(np.argmax(np.where(allowed, batches / steps_s, 0.0)))
        return OperatingPoint(int(batches[best]), float(steps_s[best]))
