"""The snapshots that the router decides on, made the way the gateway makes them: what has not changed is used again.

Of a link they tell what its ends measure (``gateway/link_states.py``), not what it could carry.
"""

import math
from collections import Counter
from collections.abc import Sequence

from msgspec.structs import replace

from prfaas.planner.simulator.engine import Engine
from prfaas.planner.simulator.link import FULL_SHARE, Link
from prfaas.routing.figures import CacheSize, PrefillRate
from prfaas.routing.scarcity import Scarcity
from prfaas.routing.snapshot import EngineState, FleetSnapshot, LinkState

STAGED_BYTES = float(256 << 20)
"""Of caches on their way out of one engine: the default of ``engine/settings.py``, ``send_mib``. What waits beyond it
stays in the engine's blocks, and no mover counts it."""
AVERAGING_S = 2.0
"""Of activity, over which goodput is averaged (``transport/goodput.py``)."""


class FleetView:
    """Belongs to one simulation. Engines whose numbers are in ``changed`` are looked at anew."""

    def __init__(self, site: str, cache: CacheSize, scarcity: Scarcity) -> None:
        self._site, self._cache, self._scarcity = site, cache, scarcity
        self._engines: Sequence[Engine] = ()
        self._links: Sequence[Link] = ()
        self._staged_bytes: list[float] = []
        self._rates: list[PrefillRate] = []
        self._states: list[EngineState] = []
        self._shown: tuple[EngineState, ...] = ()
        self.link_states: tuple[LinkState, ...] = ()
        self._before: list[tuple[float, float, float]] = []
        self._turns = 0
        self.changed: set[int] = set()

    def show(self, engines: Sequence[Engine], links: Sequence[Link]) -> None:
        """What there is to look at, before the first snapshot."""
        self._engines = engines
        self._links = [link for link in links if link.spec.bandwidth_bytes_s > 0]  # one that carries nothing is none
        behind = Counter(engine.site for engine in engines)
        self._staged_bytes = [behind[link.spec.source] * STAGED_BYTES for link in self._links]
        self._rates = [engine.spec.profile.prefill_rate() for engine in engines]
        self._states = [_state(engine, rate) for engine, rate in zip(engines, self._rates, strict=True)]
        self._shown = tuple(self._states)
        self.link_states = tuple(
            LinkState(link.spec.source, self._site, link.spec.bandwidth_bytes_s, rtt_s=link.spec.rtt_s)
            for link in self._links
        )
        self._before = [(0.0, 0.0, 0.0) for _ in self._links]

    def snapshot(self) -> FleetSnapshot:
        """The fleet now, for a decision: each call is another turn."""
        self._turns += 1
        return self.look()

    def look(self) -> FleetSnapshot:
        """The same without a turn, for whoever decides nothing."""
        if self.changed:
            for at in self.changed:
                self._states[at] = _state(self._engines[at], self._rates[at])
            self.changed.clear()
            self._shown = tuple(self._states)
        return FleetSnapshot(self._site, self._shown, self.link_states, self._turns, self._cache)

    def look_at_links(self, passed_s: float) -> None:
        """Take in what the links did in the last ``passed_s`` seconds."""
        looks = [self._look(at, link, passed_s) for at, link in enumerate(self._links)]
        self.link_states = tuple(looks)

    def look_at_breakers(self) -> None:
        """Only whether they are broken."""
        pairs = zip(self.link_states, self._links, strict=True)
        self.link_states = tuple(replace(state, is_broken=link.is_broken) for state, link in pairs)

    def _look(self, at: int, link: Link, passed_s: float) -> LinkState:
        queued_bytes = min(link.queued_bytes, self._staged_bytes[at])
        before, now = self._before[at], (link.delivered_bytes, link.active_s, link.full_s)
        self._before[at] = now
        delivered, active_s, full_s = now[0] - before[0], now[1] - before[1], now[2] - before[2]
        old = self.link_states[at]
        utilisation = min(1.0, delivered / passed_s / old.bandwidth_bytes_s)
        is_congested = full_s >= FULL_SHARE * passed_s
        return replace(
            old,
            goodput_bytes_s=_goodput_bytes_s(old.goodput_bytes_s, delivered, active_s, full_s),
            queued_bytes=queued_bytes,
            utilisation=utilisation,
            is_congested=is_congested,
            is_scarce=self._scarcity.step(old.is_scarce, utilisation, is_congested),
            is_broken=link.is_broken,
        )


def _goodput_bytes_s(before_bytes_s: float, delivered_bytes: float, active_s: float, full_s: float) -> float:
    """Averaged over activity. A link that was not full tells what was made for it: that can only raise the average."""
    if active_s <= 0:
        return before_bytes_s
    rate_bytes_s = delivered_bytes / active_s
    if not before_bytes_s:
        return rate_bytes_s
    if rate_bytes_s < before_bytes_s and full_s < FULL_SHARE * active_s:
        return before_bytes_s
    return before_bytes_s + (1 - math.exp(-active_s / AVERAGING_S)) * (rate_bytes_s - before_bytes_s)


def _state(engine: Engine, rate: PrefillRate) -> EngineState:
    capacity = engine.spec.capacity
    return EngineState(
        engine.name,
        engine.site,
        engine.can_prefill,
        engine.can_decode,
        engine.is_healthy,
        engine.inflight,
        engine.is_draining,
        False,
        engine.waiting_tokens,
        capacity,
        rate,
        None if capacity is None else min(1.0, engine.inflight / capacity),
        awaiting=engine.awaiting,
    )
