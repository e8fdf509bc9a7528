"""When a link's bandwidth is scarce: two thresholds, so that a link near one of them does not flap.

    abundant -> scarce      utilisation >= enter, or the path is congested
    scarce   -> abundant    utilisation <  leave, and the path is not congested

In between the link stays what it was.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scarcity:
    """The rules. Raises ValueError unless 0 < leave <= enter."""

    enter_utilisation: float = 0.8
    leave_utilisation: float = 0.6

    def __post_init__(self) -> None:
        if not 0 < self.leave_utilisation <= self.enter_utilisation:
            raise ValueError(f"scarcity begins at {self.enter_utilisation} and cannot end at {self.leave_utilisation}")

    def step(self, previous: bool, utilisation: float, is_congested: bool) -> bool:
        """Whether the link is scarce now, given whether it was (``previous``) and its latest figures."""
        if is_congested or utilisation >= self.enter_utilisation:
            return True
        return previous and utilisation >= self.leave_utilisation
