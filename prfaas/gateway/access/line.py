"""Who waits for a turn, and whose turn it is next. Pure: no clock, no tasks.

Rules:
- Higher classes go first; a lower one moves only while no higher one waits.
- Within a class tenants take turns, and each tenant's requests keep their order.
- A class has a bound. When it is reached, the tenant with most places gives up its last one if it has at least two more
  than the newcomer's, so that one tenant cannot keep the others out; else the newcomer is refused.
"""

from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import Generic, TypeVar

from prfaas.errors import PrfaasError

Ticket = TypeVar("Ticket")


class LineFull(PrfaasError):
    """The class has no place left for this tenant."""


class Line(Generic[Ticket]):
    """Waiting tickets by class and tenant; a ticket is whatever the caller knows a waiting request by."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        """``limits``: how many may wait in each class, the highest class first."""
        self._limits = dict(limits)
        self._classes: dict[str, OrderedDict[str, deque[Ticket]]] = {name: OrderedDict() for name in limits}

    def waiting(self, priority: str) -> int:
        """How many wait in a class."""
        return sum(map(len, self._classes[priority].values()))

    def join(self, priority: str, tenant: str, ticket: Ticket) -> Ticket | None:
        """Wait as the tenant's last. Returns the ticket that had to go for it, if one had to. Raises LineFull."""
        tenants = self._classes[priority]
        evicted = None
        if self.waiting(priority) >= self._limits[priority]:
            evicted = self._evict(priority, tenant)
        tenants.setdefault(tenant, deque()).append(ticket)
        return evicted

    def leave(self, priority: str, tenant: str, ticket: Ticket) -> bool:
        """Wait no longer. Returns whether the ticket was still there."""
        tickets = self._classes[priority].get(tenant, deque())
        if ticket not in tickets:
            return False
        tickets.remove(ticket)
        self._tidy(priority, tenant)
        return True

    def next(self) -> Ticket | None:
        """Take out the ticket whose turn it is, None when nobody waits."""
        for priority, tenants in self._classes.items():
            if tenants:
                tenant = next(iter(tenants))
                ticket = tenants[tenant].popleft()
                tenants.move_to_end(tenant)
                self._tidy(priority, tenant)
                return ticket
        return None

    def _evict(self, priority: str, tenant: str) -> Ticket:
        tenants = self._classes[priority]
        most = max(tenants, key=lambda name: len(tenants[name]), default=tenant)
        if len(tenants.get(most, ())) < len(tenants.get(tenant, ())) + 2:
            raise LineFull
        evicted = tenants[most].pop()
        self._tidy(priority, most)
        return evicted

    def _tidy(self, priority: str, tenant: str) -> None:
        if not self._classes[priority][tenant]:
            del self._classes[priority][tenant]
