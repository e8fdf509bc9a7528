"""What arrives, as far as it has been seen."""

from dataclasses import dataclass

from prfaas.planner.controller.decayed import DecayedMean, DecayedRate
from prfaas.planner.controller.seen_lengths import SeenLengths
from prfaas.planner.controller.settings import ControllerSettings
from prfaas.planner.lengths import EmpiricalLengths


@dataclass(frozen=True, slots=True)
class Estimates:
    """The demand at one moment.

    Attributes:
        requests_s: arrivals a second, over minutes: what divisions are judged by.
        recent_requests_s: the same over seconds.
        requests: how many have been seen in all.
        answers: how many have ended.
        uncached_tokens: mean of the prompts' uncached lengths, None before the first.
        output_tokens: mean of the answers' lengths, None before the first.
    """

    requests_s: float
    recent_requests_s: float
    requests: int
    answers: int
    uncached_tokens: float | None
    output_tokens: float | None


class Demand:
    """Takes requests and answers in, a few additions each."""

    def __init__(self, settings: ControllerSettings) -> None:
        self._rate = DecayedRate(settings.half_life_s)
        self._recent = DecayedRate(settings.recent_half_life_s)
        self._tokens = DecayedMean(settings.half_life_s)
        self._outputs = DecayedMean(settings.half_life_s)
        self._lengths = SeenLengths(settings.half_life_s)

    def begin(self, now_s: float) -> None:
        """The controller watches from now on; only the first call counts."""
        self._rate.begin(now_s)
        self._recent.begin(now_s)

    def arrive(self, now_s: float, uncached_tokens: int) -> None:
        self._rate.add(now_s)
        self._recent.add(now_s)
        self._tokens.add(now_s, max(uncached_tokens, 1))
        self._lengths.add(now_s, uncached_tokens)

    def answer(self, now_s: float, output_tokens: int) -> None:
        self._outputs.add(now_s, max(output_tokens, 1))

    def lengths(self, longest_tokens: float) -> EmpiricalLengths | None:
        """Those that arrived; longer ones count as ``longest_tokens``. None before the first."""
        return self._lengths.lengths(longest_tokens)

    def estimates(self, now_s: float) -> Estimates:
        return Estimates(
            self._rate.per_s(now_s),
            self._recent.per_s(now_s),
            self._tokens.count,
            self._outputs.count,
            self._tokens.mean(),
            self._outputs.mean(),
        )
