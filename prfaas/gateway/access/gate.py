"""The gate before the engines: so many requests may be past it, further ones wait in line."""

import asyncio
import math
from collections.abc import Sequence

from prfaas.clock import Clock
from prfaas.config import PriorityConfig
from prfaas.errors import RequestRejected
from prfaas.gateway.access.line import Line, LineFull
from prfaas.observe.tenants import TenantMetrics

PACE_WEIGHT = 0.1
"""Of the newest gap between two departures in their moving average: some ten departures are remembered."""
MAX_RETRY_AFTER_S = 60
"""Whatever the pace was, within a minute it is another."""


class Gate:
    """Lets requests pass in the line's order. Belongs to one event loop.

    Whenever somebody waits, all places are taken: who leaves lets the next one in.

    Attributes:
        max_running: so many may be past it.
        max_waiting: and so many of each class in line, the highest class first.
    """

    def __init__(
        self, max_running: int, classes: Sequence[PriorityConfig], clock: Clock, metrics: TenantMetrics
    ) -> None:
        self.max_running = self._free = max_running
        self.max_waiting = {each.name: each.max_waiting for each in classes}
        self._max_wait_s = {each.name: each.max_wait_s for each in classes}
        self._line = Line[asyncio.Future[None]](self.max_waiting)
        self._clock = clock
        self._metrics = metrics
        self._left_s = clock.now_s()
        self._gap_s = 0.0

    @property
    def running(self) -> int:
        """How many are past it."""
        return self.max_running - self._free

    def waiting(self, priority: str) -> int:
        """How many of a class are in line."""
        return self._line.waiting(priority)

    def enter_now(self) -> bool:
        """Pass if there is a place, without waiting."""
        if self._free == 0:
            return False
        self._free -= 1
        return True

    async def enter(self, priority: str, tenant: str) -> None:
        """Pass, after a wait if there must be one. Cancelling leaves the line.

        Raises:
            RequestRejected: 429 when too many of the class wait already, or this one has to go for another tenant's;
                503 when its turn does not come in the class's time.
        """
        if self.enter_now():
            return
        ticket: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._join(priority, tenant, ticket)
        try:
            async with asyncio.timeout(self._max_wait_s[priority]):
                await ticket
        except BaseException as error:  # whatever ends the wait, a place that has come must not be lost
            if _is_let_in(ticket):
                self.leave()
            if isinstance(error, TimeoutError):
                late = "The turn of this request did not come in time"
                raise self._refusal(503, priority, "queue_timeout", late) from None
            raise
        finally:
            self._metrics.waiting(priority, -1)
            self._line.leave(priority, tenant, ticket)

    def leave(self) -> None:
        """Somebody who has passed is done: the next one may pass."""
        now_s = self._clock.now_s()
        self._gap_s += PACE_WEIGHT * (now_s - self._left_s - self._gap_s)
        self._left_s = now_s
        while (ticket := self._line.next()) is not None:
            if not ticket.done():
                ticket.set_result(None)
                return
        self._free += 1

    def _join(self, priority: str, tenant: str, ticket: asyncio.Future[None]) -> None:
        try:
            evicted = self._line.join(priority, tenant, ticket)
        except LineFull:
            raise self._refusal(429, priority, "queue_full", "Too many requests wait already") from None
        self._metrics.waiting(priority, 1)
        if evicted is not None and not evicted.done():
            evicted.set_exception(
                self._refusal(429, priority, "queue_full", "Too many requests wait already, most of them with this key")
            )

    def _refusal(self, status: int, priority: str, code: str, reason: str) -> RequestRejected:
        seconds = min(MAX_RETRY_AFTER_S, max(1, math.ceil(self._gap_s * (self._line.waiting(priority) + 1))))
        message = f"{reason} (class {priority!r}); try again in {seconds} s."
        kind = "requests" if status == 429 else "server_error"
        return RequestRejected(status, message, kind=kind, code=code, retry_after_s=seconds)


def _is_let_in(ticket: asyncio.Future[None]) -> bool:
    return ticket.done() and not ticket.cancelled() and ticket.exception() is None
