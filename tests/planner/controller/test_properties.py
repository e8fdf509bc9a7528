"""What holds of the controller whatever it sees."""

import json
from dataclasses import asdict, fields

from hypothesis import event, given, settings
from hypothesis import strategies as st

from prfaas.planner.controller.advice import Advice
from prfaas.planner.controller.controller import TwoScaleController
from prfaas.planner.controller.settings import ControllerSettings
from prfaas.planner.curve import PiecewiseLinear
from prfaas.planner.profile import EngineProfile
from prfaas.routing.figures import CacheSize, PrefillRate
from prfaas.routing.snapshot import EngineState, FleetSnapshot, LinkState
from tests.planner import cases
from tests.planner.controller.fluid import fleet_of, link, local_engine, remote_engine

several = settings(max_examples=60, deadline=None)

MEASURED = EngineProfile(
    "measured",
    PiecewiseLinear((100.0, 8000.0), (0.02, 1.6)),
    PiecewiseLinear((100.0, 8000.0), (1e6, 8e6)),
    cases.DECODE,
)
"""Whose curves end at 16,000 tokens."""

rates = st.none() | st.builds(
    PrefillRate, st.floats(0.0, 5.0), st.sampled_from([0.0, 1e-5, 1e-3]), st.sampled_from([0.0, 1e-9])
)
amounts = st.sampled_from([0.0, 1.0, 1e6, 1e9, 1e15])
engines = st.builds(
    EngineState,
    name=st.sampled_from([f"e{at}" for at in range(6)]),
    site=st.sampled_from(["edge", "cloud", "far"]),
    can_prefill=st.booleans(),
    can_decode=st.booleans(),
    is_healthy=st.booleans(),
    inflight=st.integers(0, 1000),
    is_draining=st.booleans(),
    is_broken=st.booleans(),
    waiting_tokens=st.sampled_from([0, 5, 100_000, 10**12]),
    prefill=rates,
)
links = st.builds(
    LinkState,
    source=st.sampled_from(["cloud", "far", "edge"]),
    target=st.just("edge"),
    bandwidth_bytes_s=amounts,
    goodput_bytes_s=amounts,
    queued_bytes=amounts,
    utilisation=st.floats(0.0, 1.0),
    is_congested=st.booleans(),
    budget_left_bytes=st.none() | st.sampled_from([-5.0, 0.0, 1e9]),
    is_broken=st.booleans(),
)
fleets = st.builds(
    FleetSnapshot,
    site=st.just("edge"),
    engines=st.lists(engines, max_size=6, unique_by=lambda each: each.name).map(tuple),
    links=st.lists(links, max_size=3, unique_by=lambda each: each.source).map(tuple),
    cache=st.none() | st.builds(CacheSize, st.sampled_from([0.0, 1e3]), st.sampled_from([0.0, 1e8])),
)
looks = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.3, 1.0, 40.0, 5000.0, 1e7]),
        fleets,
        st.lists(st.sampled_from([-3, 0, 1, 700, 9000, 10**9]), max_size=6),
        st.lists(st.sampled_from([0, 1, 300, 10**9]), max_size=3),
    ),
    min_size=1,
    max_size=25,
)
profiles = st.sampled_from([None, cases.LOCAL, MEASURED])
eager = ControllerSettings(
    min_requests=1,
    min_answers=0,
    confirm_s=0.0,
    dwell_s=0.0,
    reversal_s=0.0,
    plan_interval_s=0.1,
    conversion_margin=0.0,
)
bounded = ControllerSettings(
    min_requests=1,
    min_answers=0,
    confirm_s=0.0,
    dwell_s=0.0,
    reversal_s=0.0,
    min_threshold_tokens=300,
    max_threshold_tokens=5000,
    max_conversions_per_hour=2,
)
rules = st.sampled_from([eager, bounded, ControllerSettings()])


def advices(
    controller: TwoScaleController, seen: list[tuple[float, FleetSnapshot, list[int], list[int]]]
) -> list[tuple[float, FleetSnapshot, Advice]]:
    """Show it all of that."""
    now_s, found = 0.0, []
    for passed_s, fleet, arrivals, answers in seen:
        now_s += passed_s
        for each in arrivals:
            controller.note_arrival(now_s, each)
        for each in answers:
            controller.note_answer(each)
        found.append((now_s, fleet, controller.step(now_s, fleet)))
    return found


@several
@given(looks, profiles, profiles, rules, st.none() | st.integers(300, 5000))
def test_it_never_fails_and_keeps_to_its_bounds(
    seen: list[tuple[float, FleetSnapshot, list[int], list[int]]],
    local: EngineProfile | None,
    remote: EngineProfile | None,
    rules: ControllerSettings,
    threshold: int | None,
) -> None:
    """Whatever engines, links, lengths and times: t within its bounds, at most so many conversions in any hour, only of
    engines of the site that play another role now, and every figure one that JSON has."""
    controller = TwoScaleController(threshold, local=local, remote=remote, slo=cases.SLO, settings=rules)
    begun: list[float] = []
    for now_s, fleet, advice in advices(controller, seen):
        t, high = advice.threshold_tokens, rules.max_threshold_tokens
        assert t is None or rules.min_threshold_tokens <= t
        assert t is None or high is None or t <= high
        assert len({each.engine for each in advice.conversions}) == len(advice.conversions)
        here = {each.name: each for each in fleet.engines if each.site == "edge"}
        for each in advice.conversions:
            engine = here[each.engine]
            assert (engine.can_prefill, engine.can_decode) == (each.role == "decode", each.role == "prefill")
            assert engine.is_healthy
            assert not engine.is_draining
            begun.append(now_s)
        left = [name for name, each in here.items() if each.can_decode and each.is_healthy and not each.is_draining]
        if any(each.role == "prefill" for each in advice.conversions):
            assert set(left) - {each.engine for each in advice.conversions}
        _check_state(controller)
    most = rules.max_conversions_per_hour
    assert all(later - earlier >= 3600 for earlier, later in zip(begun, begun[most:], strict=False))


@several
@given(looks, profiles, rules)
def test_it_is_a_function_of_what_it_sees(
    seen: list[tuple[float, FleetSnapshot, list[int], list[int]]],
    local: EngineProfile | None,
    rules: ControllerSettings,
) -> None:
    """The same twice."""
    first, second = (
        advices(TwoScaleController(512, local=local, remote=local, slo=cases.SLO, settings=rules), seen)
        for _ in range(2)
    )
    assert first == second


def _check_state(controller: TwoScaleController) -> None:
    state = controller.state()
    json.dumps(asdict(state), allow_nan=False)
    for part in (state.estimates, state.pressure, state.now, state.wanted):
        for each in fields(part) if part else ():
            figure = getattr(part, each.name)
            assert not isinstance(figure, float) or figure >= 0, each.name
    assert len(state.changes) <= 64


phases = st.lists(
    st.tuples(
        st.integers(1, 40),
        st.sampled_from([0, 1, 30, 300]),
        st.sampled_from([10, 1000, 20_000]),
        st.sampled_from([1, 100, 2000]),
        st.booleans(),
        st.booleans(),
    ),
    min_size=2,
    max_size=8,
)


@several
@given(st.integers(0, 5), st.integers(1, 5), st.integers(0, 2), phases, rules, st.integers(0, 4))
def test_a_fleet_that_follows_or_not_is_never_torn_apart(
    prefill: int,
    decode: int,
    shared: int,
    phases: list[tuple[int, int, int, int, bool, bool]],
    rules: ControllerSettings,
    fixed: int,
) -> None:
    """Demands that jump, a remote site that comes and goes, advice that is followed or not: no more conversions in any
    hour than allowed, none of an engine that may not be, and always as many that decode as the bound says."""
    roles = {f"p{at}": "prefill" for at in range(prefill)} | {f"d{at}": "decode" for at in range(decode)}
    convertible = sorted(roles)[fixed:]
    controller = TwoScaleController(
        512, local=cases.LOCAL, remote=cases.REMOTE, slo=cases.SLO, settings=rules, convertible=convertible
    )
    draining: dict[str, tuple[str, float]] = {}
    begun: list[float] = []
    now_s = 0.0
    for looks, arrivals, length, output, is_remote, is_followed in phases:
        for _ in range(looks):
            now_s += 10.0
            for each in range(arrivals):
                controller.note_arrival(now_s - 9.0, length + each)
                controller.note_answer(output)
            for name in [name for name, (_, end_s) in draining.items() if now_s >= end_s]:
                roles[name] = draining.pop(name)[0]
            engines = [local_engine(name, role, is_draining=name in draining) for name, role in roles.items()]
            engines += [local_engine(f"b{at}", "prefill", "decode") for at in range(shared)]
            fleet = fleet_of([*engines, remote_engine("cloud-0", is_healthy=is_remote)], [link()])
            advice = controller.step(now_s, fleet)
            for wanted in advice.conversions:
                assert wanted.engine in convertible
                assert roles[wanted.engine] != wanted.role
                begun.append(now_s)
                if is_followed:
                    draining[wanted.engine] = wanted.role, now_s + 25.0
            playing = [name for name, role in roles.items() if role == "decode" and name not in draining]
            assert len(playing) + shared >= min(rules.min_decode_engines, decode + shared)
            _check_state(controller)
    most = rules.max_conversions_per_hour
    assert all(later - earlier >= 3600 for earlier, later in zip(begun, begun[most:], strict=False))
    event(f"conversions: {min(len(begun), 3)}")
