"""The background task that asks every engine how it is."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from prfaas.fleet.fleet import Fleet

Probe = Callable[[str], Awaitable[str]]
"""Asks the engine of this name; returns its problem, empty when it is well. Bounded in time."""
Sleep = Callable[[float], Awaitable[None]]

log = logging.getLogger(__name__)


class HealthProber:
    """Probes all engines side by side, again and again, until it is cancelled by its owner. Logs what changes."""

    def __init__(
        self,
        fleet: Fleet,
        probe: Probe,
        urls: Mapping[str, str],
        *,
        interval_s: float,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """``urls`` gives the address of each engine, for the log."""
        self._fleet = fleet
        self._probe = probe
        self._urls = urls
        self._logged: dict[str, str] = {}
        self._interval_s = interval_s
        self._sleep = sleep

    async def run(self) -> None:
        """Probe for ever; a slow engine delays the next round, not the others of this one."""
        while True:
            await self.probe_all()
            await self._sleep(self._interval_s)

    async def probe_all(self) -> None:
        """One round: ask every engine once and note the answers."""
        async with asyncio.TaskGroup() as group:
            for name in self._fleet.names:
                group.create_task(self._probe_one(name))

    async def _probe_one(self, name: str) -> None:
        try:
            problem, bug = await self._probe(name), None
        except Exception as error:  # a bug of ours; ending here would leave all engines for ever as they were last seen
            problem, bug = f"the probe failed ({type(error).__name__})", error
        self._fleet.note(name, problem)
        if self._logged.get(name) != problem:
            self._logged[name] = problem
            state, level = (f"unhealthy: {problem}", logging.WARNING) if problem else ("healthy", logging.INFO)
            log.log(level, "engine %s at %s is %s", name, self._urls[name], state, exc_info=bug)
