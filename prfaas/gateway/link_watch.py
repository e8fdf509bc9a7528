"""Asking every engine's mover how it and its links are, again and again."""

import asyncio
import logging

from prfaas.errors import TransferFailed
from prfaas.gateway.services import GatewayServices

log = logging.getLogger(__name__)


class LinkWatch:
    """Keeps the latest figures of all movers and links in ``services.metrics``, for operators and for routing."""

    def __init__(self, services: GatewayServices) -> None:
        self._services = services
        self._failing: set[str] = set()

    async def run(self) -> None:
        """Ask until cancelled; a slow engine delays the next round, not the others of this one."""
        while True:
            await self.ask_all()
            await asyncio.sleep(self._services.probe_interval_s)

    async def ask_all(self) -> None:
        """One round: ask every engine once and note the answers."""
        async with asyncio.TaskGroup() as group:
            for name, engine in self._services.config.engines.items():
                group.create_task(self._ask(name, engine.kv))
        services = self._services
        told = {name: services.metrics.links.of(name) for name in services.config.engines}
        services.view.links.step(told, services.clock.now_s())

    async def _ask(self, name: str, target: str) -> None:
        try:
            figures = await self._services.reports.statistics(target)
            self._failing.discard(name)
        except TransferFailed:
            figures = None  # whether the engine is well is the prober's to say
        except Exception:  # a bug of ours; ending here would leave all links for ever as they were last seen
            figures = None
            if name not in self._failing:
                self._failing.add(name)
                log.exception("asking engine %s for its links failed", name)
        self._services.metrics.movers.note(name, figures)
        self._services.metrics.links.note(name, figures.links if figures else ())
