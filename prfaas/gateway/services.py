"""Everything the gateway works with, given to it as arguments."""

import secrets
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Protocol

from prfaas.clock import Clock
from prfaas.config import Config
from prfaas.fleet.fleet import Fleet
from prfaas.gateway.access.visit import Access, open_access
from prfaas.gateway.control.demand import Demand
from prfaas.gateway.fleet_view import FleetView
from prfaas.gateway.pace import Pace
from prfaas.gateway.prefix_hits import PrefixHits
from prfaas.gateway.prompt.parity import CheckedTokenizer
from prfaas.gateway.upstream import Upstream
from prfaas.observe.decisions import DecisionRing
from prfaas.observe.metrics import Metrics
from prfaas.prefix import PrefixUpdate
from prfaas.tracing import NO_TRACER, Tracer
from prfaas.types import MoverStatistics, TransferReport


class ReportSource(Protocol):
    """Where the decode side's word on a transfer comes from."""

    async def wait(self, target: str, transfer_id: str, secret: str, timeout_s: float) -> TransferReport:
        """Wait until the transfer has ended at ``target`` ("host:port").

        Raises:
            TransferFailed: the transfer is unknown there, the engine cannot be reached, or the time is up.
        """
        ...

    async def statistics(self, target: str) -> MoverStatistics:
        """The figures of the mover at ``target``, and how its links are.

        Raises:
            TransferFailed: it cannot be reached.
        """
        ...

    def prefixes(self, target: str) -> AsyncIterator[PrefixUpdate]:
        """What the prefix cache of the engine with its mover at ``target`` holds, now and from now on.

        Raises:
            TransferFailed: the feed ended, or the engine has none.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...


class IdSource(Protocol):
    """Where ids and secrets come from."""

    def request_id(self) -> str: ...

    def transfer_id(self) -> str: ...

    def secret(self) -> str: ...


class RandomIds:
    """Ids and secrets of the operating system's randomness."""

    def request_id(self) -> str:
        return f"req-{uuid.uuid4().hex}"

    def transfer_id(self) -> str:
        return uuid.uuid4().hex

    def secret(self) -> str:
        return secrets.token_urlsafe(32)


@dataclass(frozen=True)
class GatewayServices:
    """The gateway's collaborators; the application opens and closes them.

    Attributes:
        started_unix_s: shown as the creation time of the model.
        unix_s: the time of day, for people; what is measured is measured with ``clock``.
        probe_interval_s: between two rounds of health probes.
    """

    config: Config
    tokenizer: CheckedTokenizer
    upstream: Upstream
    reports: ReportSource
    clock: Clock
    fleet: Fleet
    view: FleetView
    prefixes: PrefixHits
    ids: IdSource = field(default_factory=RandomIds)
    metrics: Metrics = field(default_factory=Metrics)
    decisions: DecisionRing = field(default_factory=DecisionRing)
    access: Access = field(default_factory=open_access)
    pace: Pace = field(default_factory=Pace)
    demand: Demand = field(default_factory=Demand)
    tracer: Tracer = NO_TRACER
    started_unix_s: int = 0
    unix_s: Callable[[], float] = time.time
    probe_interval_s: float = 1.0
