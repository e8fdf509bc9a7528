"""What goes down, what becomes of its requests, and that none is lost or counted twice."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prfaas.errors import ConfigError
from prfaas.planner.lengths import EmpiricalLengths
from prfaas.planner.simulator.arrivals import Prefixes, Synthetic
from prfaas.planner.simulator.policies import PREDICTIVE, RULES, Phase, Setting
from prfaas.planner.simulator.request import Arrival
from prfaas.planner.simulator.run import Simulation, simulate
from prfaas.planner.simulator.spec import Change, EngineSpec, FleetSpec, LinkSpec
from tests.planner.simulator.fleets import HAND_OVER_S, STEP_S, engine, fleet, scenario

LOCAL, REMOTE = Setting("local", None), Setting("remote", 0)


def test_a_lost_site_is_noticed_and_its_requests_go_on_here() -> None:
    """Lost at 0.5 s, known 2 s later: then the local prefill engine takes a second."""
    down = Change(0.5, "site_down", "cloud")
    outcome = simulate(scenario(fleet(1, 1, 1), Arrival(0.0, 1000, 2), changes=(down,)), REMOTE)
    assert (outcome.remote, outcome.retried, outcome.answered) == (1, 1, 1)
    assert outcome.first_token_mean_s == pytest.approx(2.5 + 1.0 + HAND_OVER_S + STEP_S)


def test_the_router_avoids_what_is_known_to_be_down() -> None:
    """A request that comes after the detection is not sent there; one after the recovery is."""
    changes = (Change(0.0, "site_down", "cloud"), Change(10.0, "site_up", "cloud"))
    arrivals = (Arrival(5.0, 1000, 2), Arrival(15.0, 1000, 2))
    outcome = simulate(scenario(fleet(1, 1, 1), *arrivals, changes=changes), REMOTE)
    assert (outcome.remote, outcome.retried, outcome.answered) == (1, 0, 2)


def test_a_broken_link_is_as_good_as_a_lost_site() -> None:
    """Its transfer is given up when the link is known to be broken."""
    down = Change(0.5, "link_down", "cloud")
    outcome = simulate(scenario(fleet(1, 1, 1), Arrival(0.0, 1000, 2), changes=(down,)), REMOTE)
    assert (outcome.retried, outcome.answered) == (1, 1)


def test_a_cache_that_is_late_is_computed_here() -> None:
    """2 MB at 1 kB/s would take half an hour; a minute is waited for it."""
    outcome = simulate(scenario(fleet(1, 1, 1, bandwidth_bytes_s=1e3), Arrival(0.0, 1000, 2)), REMOTE)
    assert (outcome.retried, outcome.answered) == (1, 1)
    assert outcome.first_token_mean_s == pytest.approx(60 + 1.0 + HAND_OVER_S + STEP_S)


def test_an_answer_that_has_begun_is_lost_with_its_engine() -> None:
    """After its first token nothing is tried again; what waits for its prefill goes on at the other engine."""
    arrivals = (Arrival(0.0, 1000, 10_000), Arrival(0.0, 1000, 10_000), Arrival(1.95, 1000, 2), Arrival(1.95, 1000, 2))
    down = Change(2.0, "engine_down", "d0")
    outcome = simulate(scenario(fleet(2, 2), *arrivals, changes=(down,)), LOCAL)
    assert (outcome.failed, outcome.retried, outcome.answered) == (1, 1, 3)


def test_without_any_engine_requests_fail_rather_than_wait_for_ever() -> None:
    """Whatever comes while everything is down ends."""
    changes = (Change(1.0, "site_down", "edge"),)
    outcome = simulate(scenario(fleet(), Arrival(0.5, 1000, 2), Arrival(9.0, 1000, 2), changes=changes), LOCAL)
    assert outcome.answered == 0
    assert outcome.refused + outcome.failed == 2


@pytest.mark.parametrize("kind", ["link_down", "site_up", "engine_down", "bandwidth"])
def test_a_change_of_something_unknown_is_refused(kind: str) -> None:
    """The message names it."""
    change = Change(1.0, kind, "nowhere")  # type: ignore[arg-type]  # each is one of the literals
    with pytest.raises(ConfigError, match="nowhere"):
        simulate(scenario(fleet(), changes=(change,)), LOCAL)


def test_a_fleet_has_to_decode_somewhere() -> None:
    """Prefill engines alone answer nothing."""
    with pytest.raises(ConfigError, match="decode"):
        FleetSpec("edge", (engine("p", "prefill"),))


def test_a_failure_that_nobody_noticed_only_delays() -> None:
    """The cache comes at 1.02 s while its engine is down for a second: the answer begins as soon as it is up."""
    changes = (Change(0.5, "engine_down", "d0"), Change(1.5, "engine_up", "d0"))
    outcome = simulate(scenario(fleet(1, 1), Arrival(0.0, 1000, 10), changes=changes), LOCAL)
    assert (outcome.answered, outcome.retried) == (1, 0)
    assert outcome.first_token_mean_s == pytest.approx(1.5 + STEP_S)


kinds = st.sampled_from(["site_down", "site_up", "link_down", "link_up", "bandwidth"])
changes = st.lists(
    st.builds(Change, st.floats(0, 80), kinds, st.just("cloud"), st.sampled_from([0.0, 1e5, 1e8])), max_size=4
)
engine_changes = st.lists(
    st.builds(
        Change,
        st.floats(0, 80),
        st.sampled_from(["engine_down", "engine_up"]),
        st.sampled_from(["d0", "d1", "p0", "r0"]),
    ),
    max_size=4,
)
settings_drawn = st.builds(
    Setting,
    st.just("drawn"),
    st.sampled_from([None, 0, 800]),
    st.sampled_from([None, 1, 2]),
    st.sampled_from([RULES, PREDICTIVE]),
    phases=st.lists(
        st.builds(Phase, st.floats(0, 60), st.sampled_from([None, 500]), st.integers(0, 2)), max_size=2
    ).map(tuple),
)


@settings(max_examples=40, deadline=None)
@given(changes, engine_changes, settings_drawn, st.booleans(), st.integers(0, 99))
def test_every_request_ends_exactly_once(
    first: list[Change], second: list[Change], setting: Setting, has_shared: bool, seed: int
) -> None:
    """Whatever fails and whoever is converted: arrived = answered + refused + failed, and all books are empty."""
    engines: list[EngineSpec] = [engine("p0", "prefill", cache_tokens=20_000), engine("d0", batch=4), engine("d1")]
    engines.append(engine("r0", "prefill", "cloud", cache_tokens=5000))
    if has_shared:
        engines.append(engine("e0", "both", chunk_tokens=256))
    spec = FleetSpec("edge", tuple(engines), (LinkSpec("cloud", 2e6, 0.05),))
    lengths = EmpiricalLengths((100, 900, 3000), (3, 2, 1))
    arrivals = Synthetic(2.0, 60, lengths, 40, seed, cv=2.0, output_cv=1.0, prefixes=Prefixes(0.5, 4))
    run = Simulation(scenario(spec, arrivals=arrivals, changes=(*first, *second), max_waiting=50), setting)
    outcome = run.run()
    assert outcome.arrived == outcome.answered + outcome.refused + outcome.failed
    assert not run.tries.live
    left = [(each.inflight, each.waiting_tokens, each.awaiting, each.is_idle) for each in run.engines]
    assert left == [(0, 0, 0, True)] * len(engines)
    assert all(link.queued_bytes < 1000 for link in run.links.values())
