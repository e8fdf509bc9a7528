"""A link: transfers that share its bandwidth while their caches are being made.

Bandwidth is divided max-min fairly: each transfer gets the same share, and what one cannot use goes to the others. A
transfer cannot use more than its prefill makes once it has sent all that was made before; when the prefill has ended
the rest and the recurrent state follow as fast as the share allows. Rates are constant between events.
"""

import math
import operator
from collections.abc import Callable
from heapq import heapify, heappop, heappush

from prfaas.planner.simulator.events import Events
from prfaas.planner.simulator.request import Request
from prfaas.planner.simulator.spec import LinkSpec

EPSILON_BYTES = 64.0
"""Rounding of times of a million seconds at 100 Gbit/s; less than any row."""
FULL_SHARE = 0.98
"""A link that carries so much of what it can is full, and TCP's queues and losses on it say so."""

BY_MADE = operator.attrgetter("made_bytes_s")


class Transfer:
    """One request's cache on the link.

    Attributes:
        made_bytes_s: rows that the prefill makes a second while it lasts.
        backlog_bytes: rows that were made and have not left.
        state_bytes: recurrent state, made at the prefill's end.
        rate_bytes_s: what leaves now, while the prefill lasts.
        target_bytes: where the link's clock has to be for the last byte, after the prefill; nan before.
    """

    __slots__ = ("backlog_bytes", "made_bytes_s", "rate_bytes_s", "request", "state_bytes", "target_bytes")

    def __init__(self, request: Request, cached_bytes: float, made_bytes: float, state_bytes: float) -> None:
        """Rows that the prefill engine has cached and rows that it will make, both as far as the other lacks them."""
        self.request = request
        self.backlog_bytes = cached_bytes
        self.made_bytes_s = made_bytes / request.work_s if request.work_s > 0 else 0.0
        self.state_bytes = state_bytes
        self.rate_bytes_s = 0.0
        self.target_bytes = math.nan


class Link:
    """The transfers from one site.

    Attributes:
        arrived: told of each transfer's last byte; set before the first one.
        capacity_bytes_s: what it can carry now, 0 while it is down.
        is_broken: what the gateway's circuit breaker says.
        delivered_bytes: since the beginning.
        active_s: time with something to send.
        full_s: time in which it carried all it could.
    """

    def __init__(self, spec: LinkSpec, events: Events) -> None:
        self.spec = spec
        self.delivered_bytes = self.active_s = self.full_s = 0.0
        self.is_broken = False
        self._events = events
        self.arrived: Callable[[Request], None]
        self.capacity_bytes_s = spec.bandwidth_bytes_s
        self._making: list[Transfer] = []
        self._ending: list[tuple[float, int, Transfer]] = []
        self._clock_bytes = self._share_bytes_s = self._total_bytes_s = 0.0
        self._targets_bytes = 0.0
        self._begun = 0
        self._at_s, self._due_s = 0.0, math.inf

    @property
    def queued_bytes(self) -> float:
        """Bytes that were made and have not arrived."""
        self._advance()
        waiting = sum(each.backlog_bytes for each in self._making)
        return max(0.0, waiting + self._targets_bytes - len(self._ending) * self._clock_bytes)

    def begin(self, transfer: Transfer) -> None:
        """Its prefill has begun."""
        self._advance()
        self._making.append(transfer)
        self._settle()

    def prefilled(self, transfer: Transfer) -> None:
        """Its prefill has ended: what is left crosses, the state last."""
        self._advance()
        self._making.remove(transfer)
        transfer.target_bytes = self._clock_bytes + transfer.backlog_bytes + transfer.state_bytes
        self._begun += 1
        heappush(self._ending, (transfer.target_bytes, self._begun, transfer))
        self._targets_bytes += transfer.target_bytes
        self._settle()

    def remove(self, transfer: Transfer) -> None:
        """Forget a transfer, if it is here."""
        self._advance()
        if transfer in self._making:
            self._making.remove(transfer)
        elif not math.isnan(transfer.target_bytes):
            self._ending = [each for each in self._ending if each[2] is not transfer]
            heapify(self._ending)
            self._targets_bytes = sum(each[0] for each in self._ending)
        self._settle()

    def set_bandwidth(self, bytes_s: float) -> None:
        """From now on; 0 while it is down."""
        self._advance()
        self.capacity_bytes_s = bytes_s
        self._settle()

    def _advance(self) -> None:
        now_s = self._events.now_s
        passed_s = now_s - self._at_s
        if passed_s <= 0.0:
            return
        self._at_s = now_s
        for each in self._making:
            if each.made_bytes_s != each.rate_bytes_s:
                each.backlog_bytes = max(0.0, each.backlog_bytes + (each.made_bytes_s - each.rate_bytes_s) * passed_s)
        self._clock_bytes += self._share_bytes_s * passed_s
        self.delivered_bytes += self._total_bytes_s * passed_s
        if self._making or self._ending:
            self.active_s += passed_s
            self.full_s += passed_s if self._total_bytes_s >= FULL_SHARE * self.capacity_bytes_s else 0.0

    def _settle(self) -> None:
        """Rates from now on, and the next event at them."""
        self._divide()
        wait_s, share = math.inf, self._share_bytes_s
        if self._ending and share > 0.0:
            wait_s = max(0.0, self._ending[0][0] - self._clock_bytes) / share
        for each in self._making:
            if each.rate_bytes_s > each.made_bytes_s:  # until the backlog has gone
                wait_s = min(wait_s, each.backlog_bytes / (each.rate_bytes_s - each.made_bytes_s))
        due_s = self._events.now_s + wait_s
        if due_s < self._due_s:
            self._due_s = due_s
            self._events.at(due_s, self._fire, due_s)

    def _divide(self) -> None:
        """Max-min fair shares: those that can use least first."""
        making, left, count = self._making, self.capacity_bytes_s, len(self._making) + len(self._ending)
        if not count:
            self._total_bytes_s = self._share_bytes_s = 0.0
            return
        bounded = [each for each in making if each.backlog_bytes <= EPSILON_BYTES]
        if len(bounded) > 1:
            bounded.sort(key=BY_MADE)
        for each in bounded:
            made, share = each.made_bytes_s, left / count
            each.rate_bytes_s = made = made if made < share else share
            left -= made
            count -= 1
        share = left / count if count else 0.0
        self._total_bytes_s = self.capacity_bytes_s - (0.0 if count else left)
        if len(bounded) < len(making):
            for each in making:
                if each.backlog_bytes > EPSILON_BYTES:
                    each.rate_bytes_s = share
        self._share_bytes_s = share

    def _fire(self, due_s: float) -> None:
        if due_s != self._due_s:
            return  # another event has taken this one's place
        self._due_s = math.inf
        self._advance()
        ending = self._ending
        while ending and ending[0][0] <= self._clock_bytes + EPSILON_BYTES:
            transfer = heappop(ending)[2]
            self._targets_bytes -= transfer.target_bytes
            self.arrived(transfer.request)
        if not ending:
            self._clock_bytes = self._targets_bytes = 0.0  # keeps the sums small, and so exact
        self._settle()
