"""What the router and the controller see: no more than a gateway would."""

import pytest

from prfaas.planner.controller.advice import Advice
from prfaas.planner.curve import Quadratic
from prfaas.planner.profile import EngineProfile
from prfaas.planner.simulator.fleet import STAGED_BYTES
from prfaas.planner.simulator.policies import Setting
from prfaas.planner.simulator.request import Arrival
from prfaas.planner.simulator.run import Simulation
from prfaas.planner.simulator.spec import Change, FleetSpec, LinkSpec
from prfaas.routing.snapshot import EngineState, FleetSnapshot, LinkState
from tests.planner.simulator.fleets import DECODE, engine, fleet, scenario

PATIENCE_S = 120.0
FAT = EngineProfile("fat", Quadratic(0.0, 1e-3), Quadratic(1e6, 1e6), DECODE)
"""A megabyte of cache a token."""


class Watch:
    """Keeps all it is shown, once a second from 1 s on, and sends everything away."""

    def __init__(self) -> None:
        self.seen: list[FleetSnapshot] = []

    def note_arrival(self, now_s: float, uncached_tokens: int) -> None: ...

    def note_answer(self, output_tokens: int) -> None: ...

    def step(self, now_s: float, fleet: FleetSnapshot) -> Advice:
        self.seen.append(fleet)
        return Advice(0, (), ())

    def engine(self, name: str, at_s: int) -> EngineState:
        return next(each for each in self.seen[at_s - 1].engines if each.name == name)

    def link(self, at_s: int) -> LinkState:
        return self.seen[at_s - 1].links[0]


def watched(spec: FleetSpec, *arrivals: Arrival, changes: tuple[Change, ...] = ()) -> Watch:
    """A prompt much later keeps the controller asked."""
    watch, last = Watch(), Arrival(60.0, 10, 1)
    watched = scenario(spec, *arrivals, last, changes=changes, remote_timeout_s=PATIENCE_S)
    Simulation(watched, Setting("watch", 0, controller=lambda: watch)).run()
    return watch


def test_a_prompt_waits_until_its_prefill_ends() -> None:
    """2.5 s of prefill, and some twenty until the cache of 3.5 MB is across: meanwhile its decode engine awaits it."""
    watch = watched(fleet(1, 1, 1, bandwidth_bytes_s=1.5e5), Arrival(0.2, 2500, 10))
    assert [watch.engine("r0", at_s).waiting_tokens for at_s in (1, 2, 3, 20)] == [2500, 2500, 0, 0]
    assert [watch.engine("d0", at_s).awaiting for at_s in (1, 3, 20, 40)] == [1, 1, 1, 0]


def test_goodput_is_what_has_left() -> None:
    """1,000 bytes a token and 1,000 tokens a second are 1 MB/s, on a link of 1 GB/s that is not full."""
    watch = watched(fleet(1, 1, 1), Arrival(0.0, 20_000, 1))
    assert watch.link(10).goodput_bytes_s == pytest.approx(1e6)
    assert not watch.link(10).is_congested


def test_goodput_of_a_full_link_is_what_it_carries_after_a_while() -> None:
    """It falls to a tenth of what is made: averaged over two seconds of activity, and nobody is told at once."""
    change = Change(9.0, "bandwidth", "cloud", 1e5)
    watch = watched(fleet(1, 1, 1), Arrival(0.0, 40_000, 1), changes=(change,))
    assert watch.link(10).goodput_bytes_s == pytest.approx(1e5 + 9e5 * 0.6065, rel=1e-3)
    assert watch.link(25).goodput_bytes_s == pytest.approx(1e5, rel=0.01)


def test_what_waits_beyond_the_send_slots_is_not_seen() -> None:
    """An engine makes 10 GB in ten seconds for a link of 1 kB/s: no more shows than it can stage."""
    engines = (engine("d0", profile=FAT), engine("r0", "prefill", "cloud", profile=FAT))
    watch = watched(FleetSpec("edge", engines, (LinkSpec("cloud", 1e3),)), Arrival(0.9, 10_000, 1))
    assert watch.link(1).queued_bytes == pytest.approx(1e8, rel=0.01)
    assert watch.link(9).queued_bytes == STAGED_BYTES


def test_engines_of_a_site_stage_together() -> None:
    """Two of them show twice as much."""
    remote = [engine(f"r{at}", "prefill", "cloud", profile=FAT) for at in range(2)]
    spec = FleetSpec("edge", (engine("d0", profile=FAT), *remote), (LinkSpec("cloud", 1e3),))
    watch = watched(spec, *(Arrival(0.9, 10_000, 1) for _ in remote))
    assert watch.link(9).queued_bytes == 2 * STAGED_BYTES


def test_a_cache_that_is_made_slowly_says_nothing_of_the_link() -> None:
    """20,000 tokens are made at a third of the rate of 1,000: the link could carry what it has carried."""
    bent = EngineProfile("bent", Quadratic(0.0, 1e-3, 1e-7), Quadratic(1e6, 1000.0), DECODE)
    engines = (engine("d0", profile=bent), engine("r0", "prefill", "cloud", profile=bent))
    spec = FleetSpec("edge", engines, (LinkSpec("cloud", 1e9),))
    watch = watched(spec, Arrival(0.0, 1000, 1), Arrival(4.5, 20_000, 1))
    assert watch.link(20).goodput_bytes_s == watch.link(4).goodput_bytes_s > 9e5


def test_a_look_takes_no_turn() -> None:
    """Requests over equal engines go on taking turns however often somebody looks."""
    watch = watched(fleet(1, 2, 0), Arrival(3.5, 10, 1))
    assert [each.turn for each in watch.seen[:5]] == [0, 0, 0, 1, 1]
