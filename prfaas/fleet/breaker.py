"""A circuit breaker as a value: pure, every method returns the breaker that follows.

    state       what happens                                            next
    closed      too many failures in a row, or too large a share        open
    open        its time is over                                        half open
    half open   a trial succeeds                                        closed
    half open   a trial fails                                           open, for twice as long
    open        a request that was sent all the same succeeds           closed

Each change of state begins a new generation. What requests of an earlier one tell comes too late and changes nothing.
"""

import enum
from dataclasses import dataclass, replace

MAX_SAMPLES = 64
"""Bounds the memory of one breaker; a share of so many says enough."""


class State(enum.StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens and for how long.

    Attributes:
        consecutive: failures in a row that open it.
        share: failures among the requests of the last ``window_s`` that open it, once there are ``min_samples``.
        open_s: how long it stays open at first; doubles with each failed trial, up to ``max_open_s``.
        trials: requests at once that may try a half-open one.
    """

    consecutive: int = 3
    share: float = 0.5
    min_samples: int = 10
    window_s: float = 30.0
    open_s: float = 1.0
    max_open_s: float = 60.0
    trials: int = 1


@dataclass(frozen=True, slots=True)
class Breaker:
    """One breaker at one moment; times are seconds on the caller's monotonic clock.

    Attributes:
        since_s: when ``state`` began.
        until_s: when an open one becomes half open.
        trials: requests under way that try a half-open one.
        openings: how often it has opened since it was last closed.
        samples: time and success of the last requests of this generation, oldest first.
        failures: those in a row that failed last.
    """

    policy: BreakerPolicy = BreakerPolicy()
    state: State = State.CLOSED
    since_s: float = 0.0
    until_s: float = 0.0
    trials: int = 0
    openings: int = 0
    generation: int = 0
    samples: tuple[tuple[float, bool], ...] = ()
    failures: int = 0

    def at(self, now_s: float) -> "Breaker":
        """The breaker as it is by now."""
        if self.state is State.OPEN and now_s >= self.until_s:
            return self._changed(State.HALF_OPEN, self.until_s)
        return self

    @property
    def admits(self) -> bool:
        """May another request go through now?"""
        return self.state is State.CLOSED or (self.state is State.HALF_OPEN and self.trials < self.policy.trials)

    def entered(self) -> "Breaker":
        """A request goes through, whether it is admitted or sent all the same."""
        return replace(self, trials=self.trials + 1) if self.state is State.HALF_OPEN else self

    def left(self, generation: int) -> "Breaker":
        """A request that entered in ``generation`` ended and says nothing about the other side."""
        is_trial = generation == self.generation and self.state is State.HALF_OPEN
        return replace(self, trials=max(0, self.trials - 1)) if is_trial else self

    def told(self, generation: int, is_success: bool, now_s: float) -> "Breaker":
        """What a request that entered in ``generation`` found."""
        if generation != self.generation:
            return self
        if self.state is State.CLOSED:
            return self._sampled(is_success, now_s)
        if is_success:
            return replace(self._changed(State.CLOSED, now_s), openings=0)
        return self._opened(now_s) if self.state is State.HALF_OPEN else self

    def _sampled(self, is_success: bool, now_s: float) -> "Breaker":
        """Success is what nearly every request finds: only a failure looks back."""
        samples = (*self.samples, (now_s, is_success))[-MAX_SAMPLES:]
        if is_success:
            return replace(self, samples=samples, failures=0)
        failures = self.failures + 1
        recent = [each for at_s, each in samples if at_s > now_s - self.policy.window_s]
        is_share = len(recent) >= self.policy.min_samples and recent.count(False) >= self.policy.share * len(recent)
        if failures >= self.policy.consecutive or is_share:
            return self._opened(now_s)
        return replace(self, samples=samples, failures=failures)

    def _opened(self, now_s: float) -> "Breaker":
        opened = self._changed(State.OPEN, now_s)
        doublings = min(self.openings, 32)  # far beyond any bound, and short of what a float cannot hold
        open_s = min(self.policy.max_open_s, self.policy.open_s * 2**doublings)
        return replace(opened, openings=self.openings + 1, until_s=now_s + open_s)

    def _changed(self, state: State, now_s: float) -> "Breaker":
        following = self.generation + 1
        return replace(self, state=state, since_s=now_s, trials=0, generation=following, samples=(), failures=0)
