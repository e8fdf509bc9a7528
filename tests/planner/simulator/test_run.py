"""Runs as a whole: the same seed, caches, conversions, and the settings that are compared."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest

from prfaas.errors import ConfigError
from prfaas.planner.controller.advice import Advice, Conversion
from prfaas.planner.lengths import EmpiricalLengths
from prfaas.planner.simulator.arrivals import Prefixes, Synthetic, Trace, ramp
from prfaas.planner.simulator.compare import compare
from prfaas.planner.simulator.contestants import CONTESTANTS, Given, settings_for
from prfaas.planner.simulator.oracle import oracle
from prfaas.planner.simulator.policies import Setting
from prfaas.planner.simulator.request import Arrival
from prfaas.planner.simulator.run import Simulation, simulate
from prfaas.planner.simulator.spec import Change, FleetSpec, LinkSpec, Scenario
from prfaas.routing.snapshot import FleetSnapshot
from tests.planner.simulator.fleets import engine, fleet, scenario

LENGTHS = EmpiricalLengths((1000, 4000), (3, 1))
BUSY = Synthetic(0.8, 600, LENGTHS, 100, seed=5, cv=2.0, output_cv=1.0)


def test_the_same_seed_gives_the_same_outcome() -> None:
    """Bit for bit, and another seed another one."""
    spec = fleet(1, 1, 1, bandwidth_bytes_s=5e6)
    one, same = (simulate(scenario(spec, arrivals=BUSY), Setting("s", 1000)) for _ in range(2))
    assert one == same
    assert one != simulate(scenario(spec, arrivals=replace(BUSY, seed=6)), Setting("s", 1000))


def test_a_cached_beginning_is_not_computed_again() -> None:
    """1,024 of 2,048 tokens were in the prompt before, in whole blocks: the second takes half as long."""
    spec = FleetSpec("edge", (engine("e", "both", cache_tokens=100_000),))
    arrivals = (Arrival(0.0, 2048, 1, (1, 2, 3, 4)), Arrival(10.0, 2048, 1, (1, 2, 8, 9)))
    outcome = simulate(scenario(spec, *arrivals), Setting("local", None))
    assert outcome.cached_share == 0.25
    assert outcome.first_token_mean_s == pytest.approx((2.048 + 1.024) / 2)


def test_a_small_cache_forgets() -> None:
    """Of two blocks of room the first prompt's are gone when it comes again."""
    spec = FleetSpec("edge", (engine("e", "both", cache_tokens=1024),))
    arrivals = [Arrival(10.0 * at, 1024, 1, (at % 2 * 10, at % 2 * 10 + 1)) for at in range(4)]
    assert simulate(scenario(spec, *arrivals), Setting("local", None)).cached_share == 0


def test_prefixes_make_the_hits_that_they_promise() -> None:
    """Half of each long prompt is common; blocks and first comers cost a little of that."""
    spec = FleetSpec("edge", (engine("e", "both", cache_tokens=10_000_000),))
    arrivals = Synthetic(0.1, 5000, EmpiricalLengths((10_240,), (1,)), 1, prefixes=Prefixes(0.5, 4))
    assert simulate(scenario(spec, arrivals=arrivals), Setting("local", None)).cached_share == pytest.approx(
        0.5, abs=0.02
    )


def test_lengths_drift() -> None:
    """Three times as long from the end of the ramp on."""
    arrivals = list(Synthetic(1.0, 200, LENGTHS, 1, length_scale=ramp(50, 100, 3.0))())
    assert {each.prompt_tokens for each in arrivals if each.at_s < 50} == {1000, 4000}
    assert {each.prompt_tokens for each in arrivals if each.at_s > 100} == {3000, 12_000}


def test_gamma_arrivals_have_their_rate_and_come_in_bursts() -> None:
    """A coefficient of variation of 3 at the same mean."""
    at_s = [each.at_s for each in Synthetic(10.0, 5000, LENGTHS, 1, cv=3.0)()]
    gaps = [after - before for before, after in itertools.pairwise(at_s)]
    mean = sum(gaps) / len(gaps)
    spread = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert mean == pytest.approx(0.1, rel=0.05)
    assert spread / mean == pytest.approx(3.0, rel=0.1)


class Once:
    """Has one engine converted at the first step, and then a threshold of 500."""

    def __init__(self, conversion: Conversion) -> None:
        self.conversion, self.seen = conversion, 0
        self.snapshots: list[FleetSnapshot] = []

    def note_arrival(self, now_s: float, uncached_tokens: int) -> None:
        self.seen += 1

    def note_answer(self, output_tokens: int) -> None:
        self.seen += 1

    def step(self, now_s: float, fleet: FleetSnapshot) -> Advice:
        self.snapshots.append(fleet)
        return Advice(500, (self.conversion,) if len(self.snapshots) == 1 else (), ("why",))


def test_a_controller_is_asked_and_followed() -> None:
    """The engine drains, is empty, and prefills; the threshold is the advised one from the first step on."""
    controller = Once(Conversion("d1", "prefill"))
    run = Simulation(
        scenario(fleet(1, 2, 1), arrivals=replace(BUSY, duration_s=200.0)),
        Setting("controller", None, controller=lambda: controller),
    )
    outcome = run.run()
    assert controller.seen == 2 * outcome.arrived
    assert outcome.remote > 0
    assert (len(outcome.conversions), outcome.max_conversions_per_hour) == (1, 1)
    states = [next(each for each in seen.engines if each.name == "d1") for seen in controller.snapshots]
    assert (states[0].can_decode, states[0].is_draining) == (True, False)
    assert states[1].is_draining
    assert (states[-1].can_prefill, states[-1].can_decode, states[-1].is_draining) == (True, False, False)


def test_all_contestants_run() -> None:
    """A link that fails half-way: each in turn, and none of the others is ahead of the oracle."""
    spec = FleetSpec("edge", fleet(1, 2, 1).engines, (LinkSpec("cloud", 1e7),))
    changes = (Change(300.0, "link_down", "cloud"),)
    outcomes = compare(scenario(spec, arrivals=BUSY, changes=changes))
    assert tuple(outcomes) == CONTESTANTS
    assert all(each.good <= outcomes["oracle"].good for each in outcomes.values())
    assert outcomes["homogeneous"].remote == 0


def two_phases() -> Scenario:
    """Short prompts with long answers, which need two of three engines to decode; then the other way round."""
    first = [Arrival(at / 3, 100, 3000) for at in range(1800)]
    second = [Arrival(600 + at / 1.5, 1000, 10) for at in range(900)]
    same = Change(600.0, "bandwidth", "cloud", 1e9)
    spec = FleetSpec("edge", fleet(1, 2, 0).engines, (LinkSpec("cloud", 1e9),))
    return scenario(spec, *first, *second, changes=(same,))


def test_the_oracle_changes_its_division_with_the_phases() -> None:
    """Neither of two divisions that stay serves both halves; one after the other they do."""
    both = two_phases()
    fixed = [simulate(both, Setting("fixed", None, engines)) for engines in (1, 2)]
    found = oracle(both, fixed, lambda setting: simulate(both, setting))
    assert max(each.good for each in fixed) < 0.8 * found.arrived
    assert found.good > 0.95 * found.arrived


def test_the_controller_begins_with_what_the_first_half_hour_shows() -> None:
    """Prompts that come later are in the plan of a fixed setting, which is hindsight."""
    later = tuple(Arrival(3600.0 + at, 3000 if at % 2 else 12_000, 100) for at in range(500))
    spec = fleet(1, 2, 3)
    known, all_of_it = (
        settings_for(scenario(spec, *(Arrival(float(at), 1000 if at % 2 else 4000, 100) for at in range(500)), *more))
        for more in ((), later)
    )
    assert all_of_it["controller"].threshold_tokens == known["fixed"].threshold_tokens
    assert all_of_it["fixed"].threshold_tokens != known["fixed"].threshold_tokens


def test_engines_for_both_need_a_threshold() -> None:
    """The planner divides no engine that does both, and says what to give instead."""
    undivided = scenario(FleetSpec("edge", (engine("e", "both"),)), arrivals=BUSY)
    with pytest.raises(ConfigError, match="threshold_tokens"):
        settings_for(undivided)
    assert settings_for(undivided, Given(1000))["fixed"].threshold_tokens == 1000


def test_a_trace_is_read_as_it_is_needed(tmp_path_factory: pytest.TempPathFactory) -> None:
    """An error in a later line shows when the simulation has come there, and names the line."""
    path = tmp_path_factory.mktemp("trace") / "t.jsonl"
    line = '{"timestamp": %d, "input_length": 600, "output_length": 3, "hash_ids": [1, 2]}\n'
    path.write_text(line % 0 + line % 1000 + "nonsense\n")
    arrivals: Iterator[Arrival] = Trace(path, speed=2.0)()
    assert [next(arrivals).at_s, next(arrivals).at_s] == [0.0, 0.5]
    with pytest.raises(ConfigError, match=":3:"):
        next(arrivals)
    path.write_text("")
    with pytest.raises(ConfigError, match="no request"):
        simulate(scenario(fleet(), arrivals=Trace(path)), Setting("s", None))
