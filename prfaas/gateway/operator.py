"""What operators may do to a running gateway: look, drain engines, have the configuration read again."""

import asyncio
import logging
import signal
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from prfaas.errors import ConfigError, RequestRejected
from prfaas.fleet.breaker import Breaker
from prfaas.fleet.fleet import EngineStatus
from prfaas.gateway.changes import Changes
from prfaas.gateway.live import Live
from prfaas.gateway.operator_state import OperatorState, OperatorStore
from prfaas.gateway.services import GatewayServices
from prfaas.gateway.worker_share import EngineLoad, Share

STATE_INTERVAL_S = 0.5
"""How soon the other processes of a gateway follow: soon enough for a hand, and nothing to read a small file for."""

EngineWord = Literal["healthy", "unhealthy", "draining", "drained", "converting"]

log = logging.getLogger(__name__)


class Operator:
    """Does as operators say. Belongs to one event loop; other processes follow by the store."""

    def __init__(self, live: Live, store: OperatorStore) -> None:
        self._live = live
        self._store = store
        self._problem = ""
        self._reloads: int | None = None

    def drain(self, name: str, *, is_drained: bool) -> None:
        """Give the engine no new requests from now on, or give it some again.

        Raises:
            RequestRejected: there is no such engine.
            ConfigError: the state cannot be kept.
        """
        check_engine(self._live.now, name)

        def change(state: OperatorState) -> OperatorState:
            drained = state.drained | {name} if is_drained else state.drained - {name}
            return msgspec.structs.replace(state, drained=drained)

        self._apply(self._store.update(change))
        # An operator's word, whichever it is, counts more than a controller's.
        self._live.now.fleet.set_converting(name, is_converting=False)
        log.info("engine %s is %s", name, "drained" if is_drained else "in service again")

    def reload(self) -> Changes:
        """Read the configuration again, here and in the other processes.

        Raises:
            ConfigError: the configuration is refused and stays as it was, or the other processes cannot be told.
        """
        changes = self._live.reload()
        state = self._store.update(lambda state: msgspec.structs.replace(state, reloads=state.reloads + 1))
        self._reloads = state.reloads
        self._apply(state)
        return changes

    def hang_up(self) -> None:
        """The same for a signal, which hears no answer: the log has it."""
        try:
            self.reload()
        except ConfigError as error:
            log.error("configuration kept as it was: %s", "; ".join(str(error).splitlines()))
        except Exception:  # in a callback of the loop nobody else would hear of it
            log.exception("configuration kept as it was")

    async def run(self) -> None:
        """Follow what other processes have put into the store, and the signal to hang up, until cancelled."""
        loop = asyncio.get_running_loop()
        if self._live.can_reload:
            loop.add_signal_handler(signal.SIGHUP, self.hang_up)
        try:
            while True:
                try:
                    self.step()
                except Exception:  # a bug of ours; ending here would leave this process without its operators
                    log.exception("following the operators failed")
                await asyncio.sleep(STATE_INTERVAL_S)
        finally:
            if self._live.can_reload:
                loop.remove_signal_handler(signal.SIGHUP)

    def step(self) -> None:
        """Follow the store once; a store that cannot be read is told once and changes nothing."""
        try:
            state = self._store.read()
        except ConfigError as error:
            if self._problem != str(error):
                self._problem = str(error)
                log.error("%s", error)
            return
        self._problem = ""
        if self._reloads is None:
            self._reloads = state.reloads
        if state.reloads != self._reloads:
            self._reloads = state.reloads
            try:
                self._live.reload()
            except ConfigError as error:
                log.error("configuration kept as it was: %s", "; ".join(str(error).splitlines()))
        self._apply(state)

    def engine(self, name: str, share: Share) -> Mapping[str, Any]:
        """One engine with the load of all. Raises RequestRejected when there is no such engine any more."""
        check_engine(self._live.now, name)
        return self._engine(self._live.now.fleet.status(name), share.engines.get(name, EngineLoad()))

    def overview(self, share: Share) -> Mapping[str, Any]:
        """All engines and links as this process sees them, with the load of all; ages in seconds."""
        services = self._live.now
        links = [(link.source, link.target) for link in services.config.links]
        return {
            "engines": [
                self._engine(status, share.engines.get(status.name, EngineLoad()))
                for status in services.fleet.statuses()
            ],
            "links": [
                {"from": source, "to": target, **self._breaker(services.fleet.link_breakers.of((source, target)))}
                for source, target in links
            ],
            "silent_workers": share.silent,
        }

    def _apply(self, state: OperatorState) -> None:
        self._live.now.fleet.drain(state.drained)

    def _engine(self, status: EngineStatus, load: EngineLoad) -> Mapping[str, Any]:
        services = self._live.now
        now_s, engine = services.clock.now_s(), services.config.engines[status.name]
        return {
            "name": status.name,
            "site": engine.site,
            "roles": list(services.view.roles(status.name)),
            "state": state_of(status, load),
            "state_for_s": round(now_s - state_since_s(status), 3),
            "problem": status.problem,
            "inflight": load.inflight,
            **self._breaker(services.fleet.breakers.of(status.name)),
        }

    def _breaker(self, breaker: Breaker) -> Mapping[str, Any]:
        for_s = self._live.now.clock.now_s() - breaker.since_s
        return {"breaker": breaker.state.value, "breaker_for_s": round(for_s, 3)}


def check_engine(services: GatewayServices, name: str) -> None:
    """There is such an engine. Raises RequestRejected."""
    names = services.fleet.names
    if name not in names:
        known = ", ".join(names)
        raise RequestRejected(404, f"There is no engine {name[:100]!r} (known: {known}).", code="engine_not_found")


def state_since_s(status: EngineStatus) -> float:
    """Since when ``state_of`` is so, but for draining and drained: they begin together."""
    return next(at for at in (status.drained_s, status.converting_s, status.since_s) if at is not None)


def state_of(status: EngineStatus, load: EngineLoad) -> EngineWord:
    """An engine's state in a word; ``load`` is that of all workers."""
    if status.drained_s is not None:
        return "drained" if load.is_over else "draining"
    if status.converting_s is not None:
        return "converting"
    return "healthy" if status.is_healthy else "unhealthy"
