"""What the controller has changed, or would have, and why."""

from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Kind = Literal["threshold", "conversion", "converted", "given_up", "note"]
"""Another t; an engine begins to be converted, has the other role, or keeps its own after all; only something to say."""

MAX_CHANGES = 200
"""Hours of a fleet that is not quite in balance."""


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the history.

    Attributes:
        unix_s: when.
        mode: of the controller then; in ``shadow`` nothing was done.
        what: in words, as in the log.
        reasons: the controller's.
    """

    unix_s: float
    mode: str
    kind: Kind
    what: str
    reasons: tuple[str, ...] = ()


class History:
    """The last changes."""

    def __init__(self) -> None:
        self._changes: deque[Change] = deque(maxlen=MAX_CHANGES)

    def add(self, change: Change) -> None:
        self._changes.append(change)

    def latest_first(self) -> Sequence[dict[str, Any]]:
        """As plain values."""
        return [asdict(change) for change in reversed(self._changes)]
