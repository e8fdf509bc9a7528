"""What one try claims in the fleet while it runs, and whom its failure counts against.

Its engines have a request more; the prompt's tokens wait for their prefill at one of them, the request for its cache at
the other, and the cache is to cross a link; the breakers of engines and link have let it through.
"""

import asyncio
from contextlib import ExitStack
from typing import Any

from prfaas.errors import EngineUnavailable
from prfaas.fleet.breakers import Permit
from prfaas.fleet.failures import AGAINST_ENGINE, AGAINST_LINK, Fault
from prfaas.fleet.fleet import Link
from prfaas.gateway.faults import TryFailed
from prfaas.gateway.services import GatewayServices
from prfaas.gateway.ways import Way

OUT_OF_REACH = frozenset({Fault.UNREACHABLE, Fault.BROKE_OFF, Fault.LATE})
"""Takes an engine out until a probe finds it well. One that answers with a failure is the breaker's to judge."""


class Claims:
    """Those of one try. Each is given back once, whoever says so first; ``close`` gives back all that are left."""

    __slots__ = (
        "_awaiting",
        "_crossing",
        "_is_forced",
        "_link",
        "_load",
        "_permits",
        "_prefilling",
        "_services",
        "_unprefilled",
        "_way",
    )

    def __init__(self, services: GatewayServices, way: Way, *, is_forced: bool) -> None:
        """``is_forced`` ignores breakers."""
        self._services = services
        self._way = way
        self._is_forced = is_forced
        self._load = ExitStack()
        self._prefilling = ExitStack()
        self._unprefilled = ExitStack()
        self._awaiting = ExitStack()
        self._crossing = ExitStack()
        self._permits: list[Permit[Any]] = []
        self._link: Permit[Link] | None = None

    def load(self) -> None:
        """The decode engine has a request more, until ``leave``."""
        self._load.enter_context(self._services.fleet.load(self._way.decode))

    def load_prefill(self, engine: str, prefill: asyncio.Task[Any], *arrivals: asyncio.Task[Any]) -> None:
        """The prefill engine has a request more until ``prefill``, its answer, is over and one of ``arrivals``, each of
        which says that nobody waits for its cache any more. Operators stop an engine that has no request."""
        self._prefilling.enter_context(self._services.fleet.load(engine))

        def look(_: asyncio.Task[Any]) -> None:
            if prefill.done() and any(arrival.done() for arrival in arrivals):
                self._prefilling.close()

        for task in (prefill, *arrivals):
            task.add_done_callback(look)

    def await_cache(self) -> None:
        """It is one without its cache, until ``has_cache``."""
        self._awaiting.enter_context(self._services.view.awaiting(self._way.decode))

    def prefill_at(self, engine: str, tokens: int) -> None:
        """The prompt waits for its prefill there, until ``prefilled``."""
        if tokens:
            self._unprefilled.enter_context(self._services.view.prefilling(engine, tokens))

    def prefill_here(self, tokens: int, *, is_stream: bool) -> None:
        """The same for the decode engine itself: up to its first output, or where the answer comes as a whole for as
        long as the prefill should take. Nobody would say otherwise when it was over."""
        if not tokens:
            return
        prefill_s = self._services.view.prefill_s(self._way.decode, tokens)
        if is_stream or prefill_s:
            self.prefill_at(self._way.decode, tokens)
            self._unprefilled.enter_context(self._services.view.awaiting(self._way.decode))
        if not is_stream and prefill_s:
            timer = asyncio.get_running_loop().call_later(prefill_s, self._unprefilled.close)
            self._unprefilled.callback(timer.cancel)

    def prefilled(self) -> None:
        """Nothing waits for its prefill any more."""
        self._unprefilled.close()

    def has_cache(self) -> None:
        """The decode engine has the cache, or computes it itself."""
        self._awaiting.close()

    def leave(self) -> None:
        """The decode engine's request is over."""
        self._load.close()
        self._awaiting.close()

    def close(self) -> None:
        """Whatever is left. Idempotent."""
        self.leave()
        self._unprefilled.close()
        self._crossing.close()
        self._prefilling.close()
        for permit in self._permits:
            permit.drop()

    def permit(self, engine: str, stage: str) -> Permit[str]:
        """Raises TryFailed when the engine's breaker lets nothing through."""
        permit = self._services.fleet.breakers.admit(engine, is_forced=self._is_forced)
        if permit is None:
            raise TryFailed(stage, Fault.OPEN, EngineUnavailable(f"engine {engine} has failed too often of late"))
        self._permits.append(permit)
        return permit

    def use_link(self, prefill: str) -> None:
        """Go over the link from that engine; within a site there is none. Raises TryFailed when the link's breaker lets
        nothing through."""
        engines = self._services.config.engines
        link = (engines[prefill].site, engines[self._way.decode].site)
        if link[0] == link[1]:
            return
        permit = self._services.fleet.link_breakers.admit(link, is_forced=self._is_forced)
        if permit is None:
            problem = f"the link from {link[0]} to {link[1]} has failed too often of late"
            raise TryFailed("transfer", Fault.OPEN, EngineUnavailable(problem))
        self._permits.append(permit)
        self._link = permit
        self._crossing.enter_context(self._services.view.crossing(link))

    def end_link(self, fault: Fault | None) -> None:
        """What the transfer says of the link: that it is well, that it is not, or nothing."""
        self._crossing.close()
        if self._link is None:
            return
        if fault is None or fault in AGAINST_LINK:
            self._link.end(fault is None)
        self._link.drop()

    def drop_link(self) -> None:
        """Nothing is learnt of the link any more."""
        self._crossing.close()
        if self._link is not None:
            self._link.drop()

    def failed(self, stage: str, engine: str, fault: Fault, error: EngineUnavailable, permit: Permit[str]) -> TryFailed:
        """The try's failure, noted against the engine where it is the engine's."""
        # What an engine does that a reload has put elsewhere says nothing of the one that bears its name now.
        is_current = self._services.upstream.is_current(engine)
        if is_current and fault in OUT_OF_REACH:
            self._services.fleet.note(engine, str(error))
        if is_current and fault in AGAINST_ENGINE:
            permit.end(False)
        return TryFailed(stage, fault, error)
