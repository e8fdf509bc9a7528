"""What a controller says, and how it is asked: the same by the gateway and by the simulator."""

from dataclasses import dataclass
from typing import Literal, Protocol

from prfaas.routing.snapshot import FleetSnapshot

Role = Literal["prefill", "decode"]


@dataclass(frozen=True, slots=True)
class Conversion:
    """An engine of the local site that should play another role: drained first, then asked for the other thing only."""

    engine: str
    role: Role


@dataclass(frozen=True, slots=True)
class Advice:
    """What a controller would have now.

    Attributes:
        threshold_tokens: t from now on; None keeps everything local.
        conversions: to begin now, at most one an engine; one that has been begun is not said again.
        reasons: what changed since the last advice and why, empty when nothing did.
        is_brief: all that changed is that the short term moved t, for seconds as a rule: a log may leave it out.
    """

    threshold_tokens: int | None
    conversions: tuple[Conversion, ...] = ()
    reasons: tuple[str, ...] = ()
    is_brief: bool = False


class Controller(Protocol):
    """Whoever owns one calls it from one task; ``now_s`` is monotonic, in seconds, and never falls."""

    def note_arrival(self, now_s: float, uncached_tokens: int) -> None:
        """A request was placed that had so many tokens to prefill; those refused for want of capacity count, too."""

    def note_answer(self, output_tokens: int) -> None:
        """An answer has ended with so many tokens."""

    def step(self, now_s: float, fleet: FleetSnapshot) -> Advice:
        """Look at the fleet, at regular intervals of a second or so.

        Whether an advice was followed is to be seen in ``fleet``: an engine in conversion drains, a converted one has
        its other role.
        """
