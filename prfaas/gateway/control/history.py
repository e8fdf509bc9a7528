"""What the controller has changed, or would have, and why: in the log, in the metrics, and kept for a while."""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from prfaas.gateway.services import GatewayServices

Kind = Literal["threshold", "conversion", "converted", "given_up", "note"]
"""Another t; an engine begins to be converted, has the other role, or keeps its own after all; something to say."""

MAX_CHANGES = 200
"""Hours of a fleet that is not quite in balance."""
MAX_BRIEF = 20
"""Of a threshold that goes up and down with queues: apart, or a minute of it would hide all else."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the history.

    Attributes:
        unix_s: when.
        mode: of the controller then; in ``shadow`` nothing was done but what an operator asked for.
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

    def __init__(self, unix_s: Callable[[], float]) -> None:
        self._unix_s = unix_s
        self._changes: deque[Change] = deque(maxlen=MAX_CHANGES)
        self._brief: deque[Change] = deque(maxlen=MAX_BRIEF)

    def add(
        self,
        services: GatewayServices,
        kind: Kind,
        what: str,
        reasons: tuple[str, ...] = (),
        *,
        is_brief: bool = False,
        is_operators: bool = False,
    ) -> None:
        """It happens now; ``is_brief`` for seconds only, as a rule. What operators do is not the controller's, so that
        no metric of its counts it."""
        mode = services.config.controller.mode
        log.info("controller (%s): %s%s", mode, what, f": {'; '.join(reasons)}" if reasons else "")
        if not is_operators:
            services.metrics.control.count_change(kind, mode)
        kept = self._brief if is_brief else self._changes
        kept.append(Change(round(self._unix_s(), 3), mode, kind, what, reasons))

    @property
    def latest(self) -> Change | None:
        """The last change, brief or not; None before the first."""
        last = [kept[-1] for kept in (self._changes, self._brief) if kept]
        return max(last, key=lambda change: change.unix_s, default=None)

    def latest_first(self, *, is_brief: bool = False) -> Sequence[dict[str, Any]]:
        """The brief ones or the others, as plain values."""
        return [asdict(change) for change in reversed(self._brief if is_brief else self._changes)]
