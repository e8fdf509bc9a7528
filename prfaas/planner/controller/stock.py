"""What there is to divide: the engines and links that can be used now, read off a snapshot of the fleet."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prfaas.planner.controller.advice import Role
from prfaas.routing.snapshot import EngineState, FleetSnapshot, LinkState


@dataclass(frozen=True, slots=True)
class Source:
    """A remote site that can prefill for this one.

    Attributes:
        engines: that can prefill and take requests.
        link: from there.
        capacity_bytes_s: what the link carries now.
    """

    site: str
    engines: tuple[EngineState, ...]
    link: LinkState
    capacity_bytes_s: float


@dataclass(frozen=True, slots=True)
class Stock:
    """The local engines by role, and the remote sites of which at least one engine can be reached.

    Attributes:
        shared: the engines that do both.
        fixed: names of those that may not be converted.
    """

    prefill: tuple[EngineState, ...]
    decode: tuple[EngineState, ...]
    shared: tuple[EngineState, ...]
    sources: tuple[Source, ...]
    fixed: frozenset[str]

    def convertible(self, role: Role) -> tuple[EngineState, ...]:
        """The engines that play this role alone and may play the other one."""
        playing = self.prefill if role == "prefill" else self.decode
        return tuple(engine for engine in playing if engine.name not in self.fixed)

    @property
    def capacity_bytes_s(self) -> float:
        """What the links carry now, all together."""
        return sum(source.capacity_bytes_s for source in self.sources)

    @property
    def local_engines(self) -> int:
        return len(self.prefill) + len(self.decode) + len(self.shared)

    @property
    def prefillers(self) -> tuple[EngineState, ...]:
        """The local engines that prefill."""
        return self.prefill + self.shared

    @property
    def remote(self) -> tuple[EngineState, ...]:
        """All engines of all sources."""
        return tuple(engine for source in self.sources for engine in source.engines)

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Changes whenever engines come, go or change their role."""
        return len(self.prefill), len(self.decode), len(self.shared), len(self.remote)


def stock_of(
    fleet: FleetSnapshot, capacities_bytes_s: Mapping[str, float], convertible: frozenset[str] | None = None
) -> Stock:
    """Engines that drain, are broken or not known to be healthy count as not there.

    Args:
        capacities_bytes_s: what the link from each site carries now.
        convertible: names of the engines that may play either role, None for all.
    """
    local: dict[tuple[bool, bool], list[EngineState]] = {}
    elsewhere: dict[str, list[EngineState]] = {}
    for engine in fleet.engines:
        if engine.is_draining or engine.is_broken or not engine.is_healthy:
            continue
        if engine.site == fleet.site:
            local.setdefault((engine.can_prefill, engine.can_decode), []).append(engine)
        elif engine.can_prefill:
            elsewhere.setdefault(engine.site, []).append(engine)
    sources = tuple(_sources(fleet, elsewhere, capacities_bytes_s))
    prefill, decode, shared = (tuple(local.get(roles, ())) for roles in ((True, False), (False, True), (True, True)))
    names = frozenset() if convertible is None else {each.name for each in (*prefill, *decode)} - convertible
    return Stock(prefill, decode, shared, sources, frozenset(names))


def _sources(
    fleet: FleetSnapshot, engines: Mapping[str, list[EngineState]], capacities_bytes_s: Mapping[str, float]
) -> Iterable[Source]:
    for link in fleet.links:
        is_open = not link.is_broken and (link.budget_left_bytes is None or link.budget_left_bytes > 0)
        capacity = capacities_bytes_s.get(link.source, 0.0)
        if link.target == fleet.site and link.source in engines and is_open and capacity > 0:
            yield Source(link.source, tuple(engines[link.source]), link, capacity)
