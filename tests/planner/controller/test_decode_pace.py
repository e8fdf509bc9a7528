"""How long a decode step takes at work: ten answers at once on each of two engines, by the profile 20 ms a step."""

import pytest

from prfaas.planner.controller.advice import Advice
from prfaas.planner.controller.decode_pace import HALF_LIFE_S, LEAST, MOST, DecodePace
from prfaas.planner.lengths import EmpiricalLengths
from prfaas.planner.simulator.arrivals import Synthetic
from prfaas.planner.simulator.policies import Setting
from prfaas.planner.simulator.run import simulate
from prfaas.planner.simulator.spec import FleetSpec, LinkSpec
from prfaas.routing.snapshot import FleetSnapshot
from tests.planner import cases
from tests.planner.controller.fluid import fleet_of, local_engine
from tests.planner.simulator.fleets import DECODE, fleet, scenario


def factor(
    tokens_s: float,
    *,
    inflight: int = 10,
    awaiting: int = 0,
    seconds: int = 600,
    roles: tuple[str, ...] = ("decode",),
) -> float:
    """After so long at a constant rate of tokens, in one answer a second."""
    pace = DecodePace()
    engines = [local_engine(f"d-{at}", *roles, inflight=inflight, awaiting=awaiting) for at in range(2)]
    fleet = fleet_of(engines)
    for second in range(seconds):
        pace.answer(float(second), int(tokens_s))
        pace.step(float(second), fleet, 10)
    return pace.factor(float(seconds - 1), cases.DECODE)


def test_as_fast_as_the_profile_is_no_difference() -> None:
    """20 at once, 1,000 tokens a second: 20 ms; 4 % more is none either."""
    assert factor(1000) == pytest.approx(1.0)
    assert factor(1040) == 1.0


def test_slower_and_faster_steps_show() -> None:
    """800 a second are 25 ms, 25 % more, of which 5 % are tolerated; 1,600 are 12.5 ms."""
    assert factor(800) == pytest.approx(1.2, abs=0.01)
    assert factor(1600) == pytest.approx(0.675, abs=0.01)


def test_requests_without_their_cache_are_not_decoded() -> None:
    """Four of the 24 wait for their prefill, or their cache is on its way."""
    assert factor(800, inflight=12, awaiting=2) == pytest.approx(1.2, abs=0.01)


def test_what_waits_for_room_in_the_batch_is_not_decoded() -> None:
    """Forty each, of which ten run."""
    assert factor(1000, inflight=40) == 1.0


def test_too_little_is_known_at_first() -> None:
    """For two minutes, without an answer, without a decode engine, or where they prefill, too."""
    assert factor(100, seconds=int(HALF_LIFE_S)) == 1.0
    assert factor(0) == 1.0
    assert factor(800, inflight=0) == 1.0
    assert factor(800, roles=("prefill", "decode")) == 1.0
    assert DecodePace().factor(0.0, cases.DECODE) == 1.0
    assert DecodePace().wait_s(0.0) == HALF_LIFE_S


def test_what_is_seen_is_believed_within_bounds() -> None:
    """A hundred times as slow, or as fast, is another engine."""
    assert factor(10) == MOST
    assert factor(100_000) == LEAST


def test_a_slow_link_is_no_slow_decode() -> None:
    """Half of the prompts are remote and their caches cross for a minute or so; decode does what its profile says."""
    spec = FleetSpec("edge", fleet(1, 2, 1).engines, (LinkSpec("cloud", 1.5e6),))
    arrivals = Synthetic(1.0, 600, EmpiricalLengths((500, 1000), (1, 1)), 100, seed=3)
    pace, most = DecodePace(), DECODE.batch[-1]
    found: list[float] = []

    class Watch:
        now_s = 0.0

        def note_arrival(self, now_s: float, uncached_tokens: int) -> None:
            self.now_s = now_s

        def note_answer(self, output_tokens: int) -> None:
            pace.answer(self.now_s, output_tokens)

        def step(self, now_s: float, fleet: FleetSnapshot) -> Advice:
            pace.step(now_s, fleet, most)
            found.append(pace.factor(now_s, DECODE))
            return Advice(800, (), ())

    simulate(scenario(spec, arrivals=arrivals, remote_timeout_s=600.0), Setting("watch", 800, controller=Watch))
    assert found[300:] == pytest.approx([1.0] * len(found[300:]), abs=0.1)
