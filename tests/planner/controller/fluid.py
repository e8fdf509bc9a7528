"""A small fluid model of a fleet, to close the loop around a controller: queues grow by what arrives and shrink by what
is served, second by second. It follows the advice; a conversion drains its engine for a while."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from msgspec.structs import replace

from prfaas.planner.controller.advice import Advice, Controller, Conversion
from prfaas.routing.figures import CacheSize, PrefillRate
from prfaas.routing.snapshot import EngineState, FleetSnapshot, LinkState

LOCAL_RATE, REMOTE_RATE = PrefillRate(0.0, 2e-4), PrefillRate(0.0, 1e-4)
BYTES_PER_TOKEN = 1000.0


def local_engine(name: str, *roles: str, **more: object) -> EngineState:
    """A healthy engine of site "edge"."""
    state = EngineState(name, "edge", "prefill" in roles, "decode" in roles, True, prefill=LOCAL_RATE)
    return replace(state, **more)


def remote_engine(name: str, site: str = "cloud", **more: object) -> EngineState:
    """A healthy engine that prefills elsewhere."""
    return replace(EngineState(name, site, True, False, True, prefill=REMOTE_RATE), **more)


def link(bandwidth_bytes_s: float = 1.25e9, source: str = "cloud", **more: object) -> LinkState:
    """An idle one."""
    return replace(LinkState(source, "edge", bandwidth_bytes_s), **more)


def fleet_of(engines: Sequence[EngineState], links: Sequence[LinkState] = ()) -> FleetSnapshot:
    return FleetSnapshot("edge", tuple(engines), tuple(links), cache=CacheSize(BYTES_PER_TOKEN))


@dataclass
class FluidFleet:
    """Local engines by role, remote engines, a link; everything in seconds or bytes of work that waits.

    Attributes:
        link_bytes_s: what the link truly carries; the snapshot tells only its bandwidth.
    """

    prefill: int
    decode: int
    remote: int
    bandwidth_bytes_s: float = 1.25e9
    link_bytes_s: float = 1.25e9
    drain_s: float = 20.0
    is_lost: bool = False
    roles: dict[str, str] = field(default_factory=dict)
    draining: dict[str, tuple[str, float]] = field(default_factory=dict)
    local_tokens: float = 0.0
    remote_tokens: float = 0.0
    link_queue: float = 0.0
    carried_bytes_s: float = 0.0

    def __post_init__(self) -> None:
        names = [f"edge-{at}" for at in range(self.prefill + self.decode)]
        self.roles = {name: "prefill" if at < self.prefill else "decode" for at, name in enumerate(names)}

    def prefillers(self) -> int:
        return sum(role == "prefill" and name not in self.draining for name, role in self.roles.items())

    def snapshot(self) -> FleetSnapshot:
        waiting = int(self.local_tokens / max(self.prefillers(), 1))
        engines = [
            local_engine(
                name, role, is_draining=name in self.draining, waiting_tokens=waiting if role == "prefill" else 0
            )
            for name, role in self.roles.items()
        ]
        each = int(self.remote_tokens / max(self.remote, 1))
        engines += [
            remote_engine(f"cloud-{at}", waiting_tokens=each, is_healthy=not self.is_lost) for at in range(self.remote)
        ]
        state = link(
            self.bandwidth_bytes_s,
            goodput_bytes_s=self.carried_bytes_s,
            queued_bytes=self.link_queue,
            utilisation=min(1.0, self.carried_bytes_s / self.bandwidth_bytes_s),
            is_congested=self.link_queue > 0.2 * self.link_bytes_s,
        )
        return fleet_of(engines, [state])

    def follow(self, now_s: float, conversions: Sequence[Conversion]) -> None:
        """Begin what is advised and end what has drained."""
        for each in conversions:
            self.draining[each.engine] = each.role, now_s + self.drain_s
        for name, (role, end_s) in list(self.draining.items()):
            if now_s >= end_s:
                self.roles[name] = role
                del self.draining[name]

    def serve(self, lengths: Sequence[int], threshold_tokens: int | None) -> None:
        """A second of arrivals and of work."""
        is_remote = [threshold_tokens is not None and not self.is_lost and each > threshold_tokens for each in lengths]
        long = sum(each for each, far in zip(lengths, is_remote, strict=True) if far)
        self.remote_tokens += long
        self.local_tokens += sum(lengths) - long
        self.local_tokens = max(self.local_tokens - self.prefillers() / LOCAL_RATE.s_per_token, 0.0)
        done = min(self.remote_tokens, 0 if self.is_lost else self.remote / REMOTE_RATE.s_per_token)
        self.remote_tokens -= done
        self.link_queue += done * BYTES_PER_TOKEN
        self.carried_bytes_s = min(self.link_queue, self.link_bytes_s)
        self.link_queue -= self.carried_bytes_s


@dataclass(frozen=True)
class Seen:
    """One second of a run."""

    now_s: float
    advice: Advice
    local_s: float
    link_s: float
    prefill_engines: int


def run(
    controller: Controller,
    fleet: FluidFleet,
    seconds: int,
    requests_s: float,
    *,
    output_tokens: int = 100,
    draw: Callable[[np.random.Generator, int], Sequence[int]] | None = None,
    events: dict[int, Callable[[FluidFleet], None]] | None = None,
    seed: int = 0,
    begin_s: int = 0,
) -> list[Seen]:
    """Constant demand, Poisson arrivals; one prompt in four has 10,000 tokens and the others 1,000, unless drawn."""
    random = np.random.default_rng(seed + begin_s)
    seen = []
    for second in range(begin_s, begin_s + seconds):
        if events and second in events:
            events[second](fleet)
        count = int(random.poisson(requests_s))
        lengths = draw(random, count) if draw else np.where(random.random(count) < 0.25, 10_000, 1000).tolist()
        for each in lengths:
            controller.note_arrival(second, each)
            controller.note_answer(output_tokens)
        advice = controller.step(float(second), fleet.snapshot())
        fleet.follow(second, advice.conversions)
        fleet.serve(lengths, advice.threshold_tokens)
        waits = fleet.local_tokens * LOCAL_RATE.s_per_token / max(fleet.prefillers(), 1)
        seen.append(Seen(second, advice, waits, fleet.link_queue / fleet.link_bytes_s, fleet.prefillers()))
    return seen
