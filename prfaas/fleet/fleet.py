"""Health, load and drain of the engines, as this gateway sees them, and the breakers of engines and links."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from prfaas.clock import Clock
from prfaas.fleet.breakers import Breakers

NOT_PROBED = "not probed yet"
"""The problem of an engine of which nothing has been heard."""
Link = tuple[str, str]
"""Source site, target site."""


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """One engine at one moment.

    Attributes:
        name: the engine's name in the configuration.
        is_healthy: the last word, from a request or a probe, was a good one.
        inflight: requests of this gateway that the engine is working on.
        problem: what the last word was, empty when healthy.
        since_s: when ``is_healthy`` last changed, on the fleet's clock.
        drained_s: since when it takes no new requests because operators say so, None while they do not.
        converting_s: the same for a conversion to another role.
        adapters: path of each LoRA adapter that it has, by name, as it says itself; None when it has not been asked.
    """

    name: str
    is_healthy: bool
    inflight: int
    problem: str
    since_s: float
    drained_s: float | None = None
    converting_s: float | None = None
    adapters: Mapping[str, str] | None = None

    @property
    def is_draining(self) -> bool:
        """It takes no new requests, whoever says so."""
        return self.drained_s is not None or self.converting_s is not None


class Fleet:
    """Counts requests and remembers the last word about each engine. Belongs to one event loop.

    An engine counts as unhealthy until something good is heard of it. One that has been removed is gone from ``names``
    and ``statuses`` at once; requests that it still works on end as they would have.

    Attributes:
        clock: the time of all that is said here.
        breakers: of the engines, by name.
        link_breakers: of the links.
    """

    def __init__(self, names: Iterable[str], clock: Clock) -> None:
        self.clock = clock
        self._engines = {name: self._new(name) for name in names}
        self.breakers: Breakers[str] = Breakers(clock)
        self.link_breakers: Breakers[Link] = Breakers(clock)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._engines)

    def status(self, name: str) -> EngineStatus:
        """The status of one engine. One that is not in the fleet was removed, and takes no new requests."""
        return self._engines.get(name) or EngineStatus(name, False, 0, "removed", 0.0, drained_s=0.0)

    def statuses(self) -> tuple[EngineStatus, ...]:
        """All engines, in the order of the configuration."""
        return tuple(self._engines.values())

    def keep(self, names: Iterable[str], changed: Collection[str] = ()) -> None:
        """Be a fleet of these engines. Nothing is known of new ones, and nothing more of those in ``changed``."""
        before = self._engines
        self._engines = {
            name: replace(self._new(name), drained_s=before[name].drained_s, inflight=before[name].inflight)
            if name in before and name in changed
            else before.get(name) or self._new(name)
            for name in names
        }
        self.breakers.keep([name for name in self._engines if name not in changed])

    def drain(self, names: Collection[str]) -> None:
        """Operators have drained these engines and no others; names that are not in the fleet are passed over."""
        for name, status in self._engines.items():
            if (name in names) != (status.drained_s is not None):
                drained_s = self.clock.now_s() if name in names else None
                self._engines[name] = replace(status, drained_s=drained_s)

    def set_converting(self, name: str, *, is_converting: bool) -> None:
        """The engine takes no new requests while it is being converted. What operators say of it is another matter."""
        status = self._engines.get(name)
        if status is not None and is_converting != (status.converting_s is not None):
            self._engines[name] = replace(status, converting_s=self.clock.now_s() if is_converting else None)

    @contextmanager
    def load(self, name: str) -> Iterator[None]:
        """Count one request on the engine for the duration of the block."""
        self._add_inflight(name, 1)
        try:
            yield
        finally:
            self._add_inflight(name, -1)

    def note(self, name: str, problem: str) -> bool:
        """Record the last word about an engine: empty for a good one. Returns whether its health changed."""
        now = self._engines.get(name)
        if now is None:
            return False  # removed while a request or a probe was on its way
        is_healthy = not problem
        changed = is_healthy != now.is_healthy
        since_s = self.clock.now_s() if changed else now.since_s
        self._engines[name] = replace(now, is_healthy=is_healthy, problem=problem, since_s=since_s)
        return changed

    def note_adapters(self, name: str, adapters: Mapping[str, str] | None) -> None:
        """Remember which LoRA adapters an engine has, None when that is not known any more."""
        now = self._engines.get(name)
        if now is not None and now.adapters != adapters:
            self._engines[name] = replace(now, adapters=adapters)

    def _new(self, name: str) -> EngineStatus:
        return EngineStatus(name, False, 0, NOT_PROBED, self.clock.now_s())

    def _add_inflight(self, name: str, count: int) -> None:
        # A request that began before its engine was removed, and ends after one of the same name was added, counts at
        # the new one, which may look idle for its length; never below 0.
        if now := self._engines.get(name):
            self._engines[name] = replace(now, inflight=max(0, now.inflight + count))
