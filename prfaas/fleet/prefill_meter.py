"""How long an engine's prefills take, from when prompts are sent to it and when their prefill has ended.

Prompts that an engine has at the same time share its steps, so no single one of them tells how fast it is. All of a
busy period together do: so many tokens in so many seconds.
"""

from typing import NamedTuple

MAX_ENDED = 8
"""Prompts of one period, so that an engine that is never idle is measured, too. Those that still run are counted whole
in the next period; what they lack there the first ones of this period had too much: both are small beside eight."""


class Work(NamedTuple):
    """What one prompt costs: tokens to compute, after so many cached ones."""

    tokens: int
    cached: int = 0


class Period(NamedTuple):
    """A busy period.

    Attributes:
        tokens: computed in it.
        squares: sum of (end^2 - cached^2) of its prompts, what attention's cost grows with.
        seconds: its length.
    """

    tokens: int
    squares: int
    seconds: float


class PrefillMeter:
    """The periods of one engine, of one gateway's own prompts alone. Times are of the caller's monotonic clock."""

    def __init__(self) -> None:
        self._running = 0
        self._start(0.0)

    def begin(self, now_s: float) -> None:
        """A prompt is sent to the engine."""
        if not self._running:
            self._start(now_s)
        self._running += 1

    def end(self, work: Work | None, now_s: float) -> Period | None:
        """The prefill of one has ended, or None of it is known: it failed or was given up, which spoils the period.
        Returns the period if it ends with this."""
        self._running -= 1
        self._ended += 1
        if work is None:
            self.disturb()
        else:
            self._tokens += work.tokens
            self._squares += (work.cached + work.tokens) ** 2 - work.cached**2
        if self._running and self._ended < MAX_ENDED:
            return None
        period = Period(self._tokens, self._squares, now_s - self._began_s)
        is_spoilt = self._is_spoilt
        self._start(now_s)
        return None if is_spoilt else period

    def disturb(self) -> None:
        """The engine gets other work besides, of which nobody will tell when it ends: the period tells nothing."""
        self._is_spoilt = True

    def _start(self, now_s: float) -> None:
        self._began_s = now_s
        self._ended = self._tokens = self._squares = 0
        self._is_spoilt = False
