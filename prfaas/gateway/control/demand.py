"""What is asked of the fleet, on its way to the controller."""

from collections import deque
from dataclasses import dataclass, field

from prfaas.routing.placement import Placement, Refusal
from prfaas.routing.snapshot import RequestFeatures

MAX_KEPT = 65_536
"""Between two looks of the controller, a second apart as a rule; without one the oldest go."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What came since the last look.

    Attributes:
        arrivals: when each request was placed, on the gateway's clock, and the tokens that this site would have had to
            prefill for it; in order.
        answers: tokens of each answer that ended.
    """

    arrivals: tuple[tuple[float, int], ...]
    answers: tuple[int, ...]


@dataclass
class Demand:
    """Keeps it until the controller looks: a request pays for two appends, whatever the controller does with them.
    Belongs to one event loop."""

    _arrivals: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=MAX_KEPT))
    _answers: deque[int] = field(default_factory=lambda: deque(maxlen=MAX_KEPT))

    def note_arrival(self, now_s: float, uncached_tokens: int) -> None:
        """A request was placed, or refused because nobody could take it."""
        self._arrivals.append((now_s, uncached_tokens))

    def note_answer(self, output_tokens: int) -> None:
        """An answer has ended."""
        self._answers.append(output_tokens)

    def take(self) -> Taken:
        """All of it; nothing is kept."""
        taken = Taken(tuple(self._arrivals), tuple(self._answers))
        self._arrivals.clear()
        self._answers.clear()
        return taken


def uncached_here(features: RequestFeatures, placed: Placement | Refusal, expected_tokens: int) -> int | None:
    """The tokens that this site would have to prefill for a request, wherever it was placed: what t is compared with.

    ``expected_tokens`` is what the prompt is charged with while its length is unknown, 0 for a request that runs no
    model. None for what asks nothing of the engines: such a one, and one whose tenant may not be served here.
    """
    if expected_tokens == 0 or (isinstance(placed, Refusal) and placed.status == 403):
        return None
    if features.prompt_tokens is None:
        return expected_tokens if features.max_tokens is None else min(expected_tokens, features.max_tokens)
    if isinstance(placed, Placement):
        here = next((each.uncached_tokens for each in placed.candidates if not each.is_remote), None)
        if here is not None:
            return here
    return features.prompt_tokens
