"""The controller in a closed loop with a small fluid model of a fleet.

Prompts of 1,000 tokens, and one in four of 10,000. A local engine prefills 3,250 tokens, the mean, in 0.65 s and
decodes 5 requests/s; a remote one prefills 10,000 in 1 s.
"""

import math
from dataclasses import replace
from typing import Any

import pytest

from prfaas.errors import ConfigError
from prfaas.planner.controller import controller as module
from prfaas.planner.controller.controller import TwoScaleController
from prfaas.planner.controller.long_term import Outlook, look
from prfaas.planner.controller.settings import ControllerSettings
from prfaas.planner.workload import Slo
from prfaas.routing.figures import PrefillRate
from prfaas.routing.snapshot import EngineState
from tests.planner import cases
from tests.planner.controller.fluid import FluidFleet, Seen, fleet_of, link, local_engine, remote_engine, run

SETTINGS = ControllerSettings()


def controller(threshold: int | None = 2000, settings: ControllerSettings = SETTINGS) -> TwoScaleController:
    return TwoScaleController(threshold, local=cases.LOCAL, remote=cases.REMOTE, slo=cases.SLO, settings=settings)


def conversions(seen: list[Seen]) -> list[tuple[float, str]]:
    return [(second.now_s, each.role) for second in seen for each in second.advice.conversions]


def thresholds(seen: list[Seen]) -> list[int | None]:
    return [second.advice.threshold_tokens for second in seen]


def test_a_prefill_bound_fleet_gets_prefill_engines_and_keeps_them() -> None:
    """1 : 7 and 8 requests/s: with the best division the queue goes, and nothing is converted back."""
    one = controller()
    seen = run(one, FluidFleet(prefill=1, decode=7, remote=1), 1800, 8.0)
    assert {role for _, role in conversions(seen)} == {"prefill"}
    assert len(conversions(seen)) <= 5
    assert 120 <= conversions(seen)[0][0] <= conversions(seen)[-1][0] < 400
    assert max(second.local_s for second in seen[-300:]) < 5.0
    state = one.state()
    assert state.now is not None
    assert max(stage.utilisation or 0.0 for stage in state.now.stages) < 1


def test_a_decode_bound_fleet_gets_decode_engines() -> None:
    """6 : 2 and four times the output: 2.5 requests/s of decode, of 4 that arrive."""
    seen = run(controller(), FluidFleet(prefill=6, decode=2, remote=2), 900, 4.0, output_tokens=400)
    assert {role for _, role in conversions(seen)} == {"decode"}
    assert seen[-1].prefill_engines <= 4


@pytest.mark.parametrize(("demand", "seed"), [(3.9, 1), (4.1, 2), (6.0, 3), (8.3, 4)])
def test_constant_demand_settles(demand: float, seed: int) -> None:
    """Near the point where one division or the other is the better one, and far from it: no engine goes to and fro, and
    in the second half of an hour none at all."""
    seen = run(controller(), FluidFleet(prefill=2, decode=2, remote=1), 3600, demand, seed=seed)
    roles = [role for _, role in conversions(seen)]
    assert len(roles) <= 2
    assert not [at for at, _ in conversions(seen) if at > 1800]
    assert len(set(thresholds(seen[1800:]))) < 20


def test_a_demand_that_swings_moves_no_more_engines_than_allowed() -> None:
    """Output lengths of 50 and 800 tokens in turns, every ten minutes, which either division is wrong for."""
    settings = ControllerSettings(max_conversions_per_hour=3, reversal_s=300.0)
    one, fleet = controller(settings=settings), FluidFleet(prefill=3, decode=3, remote=1)
    begun: list[float] = []
    for turn in range(12):
        seen = run(one, fleet, 600, 5.0, output_tokens=800 if turn % 2 else 50, begin_s=600 * turn)
        begun += [at for at, _ in conversions(seen)]
    assert begun
    assert all(later - earlier >= 3600 for earlier, later in zip(begun, begun[3:], strict=False))


def test_a_link_that_falls_is_relieved_at_once_and_used_again_when_it_is_back() -> None:
    """From 1 Gbit/s to 80 Mbit/s, which is a long request a second of the three that were sent."""
    fleet = FluidFleet(prefill=6, decode=4, remote=6, bandwidth_bytes_s=1.25e8, link_bytes_s=1.25e8)
    falls = {
        600: lambda fleet: setattr(fleet, "link_bytes_s", 1e7),
        1500: lambda fleet: setattr(fleet, "link_bytes_s", 1.25e8),
    }
    seen = run(controller(), fleet, 2400, 12.0, events=falls)
    before, after = thresholds(seen)[599], thresholds(seen)[1499]
    assert before is not None
    assert before < 10_000
    moved = next(at for at in range(600, 900) if (thresholds(seen)[at] or math.inf) > before * 2)
    assert moved <= 610
    assert after is None or after >= 10_000
    back = next(at for at in range(1500, 2400) if (thresholds(seen)[at] or math.inf) < 10_000)
    assert back <= 1500 + 400
    assert max(second.link_s for second in seen[-60:]) < 2.0


def test_a_lost_site_is_given_up_at_once_and_comes_back_after_a_while() -> None:
    """No remote prefill from the first look on; ten seconds of health before the first one again."""
    events = {600: lambda fleet: setattr(fleet, "is_lost", True), 1200: lambda fleet: setattr(fleet, "is_lost", False)}
    seen = run(controller(), FluidFleet(prefill=3, decode=3, remote=2), 1800, 4.0, events=events)
    assert thresholds(seen)[599] is not None
    assert set(thresholds(seen)[600:1210]) == {None}
    assert thresholds(seen)[1210] is not None
    assert any("no remote site can be reached" in each for each in seen[600].advice.reasons)


def test_a_site_that_comes_and_goes_is_not_trusted() -> None:
    """Up for five seconds, down for five: everything stays local."""
    one, fleet = controller(), FluidFleet(prefill=3, decode=3, remote=2)
    run(one, fleet, 300, 4.0)
    for turn in range(30):
        fleet.is_lost = turn % 2 == 0
        seen = run(one, fleet, 5, 4.0, begin_s=300 + 5 * turn)
        assert set(thresholds(seen)) == {None}


def test_every_change_has_a_reason_and_every_reason_is_kept() -> None:
    """One sentence each, with figures; the state has the last of them but for what the short term does."""
    one = controller()
    seen = run(one, FluidFleet(prefill=1, decode=7, remote=1), 600, 8.0)
    previous: int | None = 2000
    for second in seen:
        advice = second.advice
        is_change = advice.threshold_tokens != previous or advice.conversions
        assert not is_change or advice.reasons
        previous = advice.threshold_tokens
    told = [each for second in seen if not second.advice.is_brief for each in second.advice.reasons]
    brief = [second.advice for second in seen if second.advice.is_brief]
    assert brief
    assert not any(each.conversions for each in brief)
    assert all("\n" not in each and len(each) < 400 for each in told)
    assert [each.reason for each in one.state().changes] == told[-len(one.state().changes) :]


def test_the_same_inputs_give_the_same_advice() -> None:
    """To the last word."""
    first, second = (run(controller(), FluidFleet(1, 7, 1), 300, 8.0, seed=5) for _ in range(2))
    assert [each.advice for each in first] == [each.advice for each in second]


def test_what_it_waits_for_is_said() -> None:
    """First requests, then answers, then nothing."""
    one, fleet = controller(), fleet_of([local_engine("p", "prefill"), local_engine("d", "decode")])
    one.step(0.0, fleet)
    assert one.state().waits_for == "50 more requests, to know their lengths"
    for _ in range(50):
        one.note_arrival(1.0, 1000)
    one.step(1.0, fleet)
    assert one.state().waits_for == "20 more answers, to know how much is decoded"
    for _ in range(20):
        one.note_answer(100)
    one.step(20.0, fleet)
    assert one.state().waits_for == "100 s more, to know how fast"
    one.step(120.0, fleet)
    assert one.state().waits_for == ""


def test_engines_of_unknown_speed_are_waited_for() -> None:
    """Without profiles and before the first measured speed t stays as it is, but for a link that is lost."""
    one = TwoScaleController(512)
    slow = [local_engine("p", "prefill", prefill=None), local_engine("d", "decode", prefill=None)]
    for _ in range(100):
        one.note_arrival(0.0, 3000)
    fleet = fleet_of([*slow, remote_engine("cloud-0", prefill=None)], [link()])
    assert one.step(1.0, fleet).threshold_tokens == 512
    assert one.state().waits_for == "a local engine whose speed is known"
    assert one.step(2.0, fleet_of(slow)).threshold_tokens is None


def test_without_profiles_the_measured_speeds_give_t_and_no_division() -> None:
    """Two engines of one speed, one here and one there: half of the tokens each; and no conversion, whatever comes."""
    one = TwoScaleController(None, settings=replace(SETTINGS, min_answers=0))
    speed = PrefillRate(0.0, 1e-3, source="measured")
    engines = [local_engine("p", "prefill", prefill=speed), *(local_engine(f"d-{at}", "decode") for at in range(5))]
    fleet = fleet_of([*engines, remote_engine("cloud-0", prefill=speed)], [link()])
    for at in range(1000):
        one.note_arrival(at / 10, (at % 100 + 1) * 100)
        one.note_answer(100)
    advice = one.step(100.0, fleet)
    later = [one.step(100.0 + second, fleet) for second in range(300)]
    assert advice.threshold_tokens == pytest.approx(7000, rel=0.06)
    assert not any(each.conversions for each in later)


def test_the_stack_on_one_machine_gets_sensible_advice() -> None:
    """One engine that does both here, one that prefills elsewhere, as ``prfaas up`` runs them. All prompts elsewhere
    are 0.325 s each, 3.1 a second; with the short ones here the engine that decodes is the narrower one: 2.9."""
    one = controller(512)
    fleet = fleet_of([local_engine("edge-0", "prefill", "decode"), remote_engine("cloud-0")], [link()])
    for second in range(300):
        one.note_arrival(float(second), 10_000 if second % 4 == 0 else 1000)
        one.note_answer(100)
        advice = one.step(float(second), fleet)
        assert not advice.conversions
    state = one.state()
    assert advice.threshold_tokens is not None
    assert advice.threshold_tokens < 1000
    assert state.now is not None
    assert (state.now.shared_engines, state.now.prefill_engines) == (1, 0)
    use = {stage.name: stage.utilisation for stage in state.now.stages}
    assert use["remote prefill"] == pytest.approx(0.325, rel=0.1)
    assert use["local engines"] == pytest.approx(0.2, rel=0.1)
    assert state.waits_for == ""


def test_without_a_local_prefill_engine_queues_keep_nothing_here() -> None:
    """However long remote prefills wait: the decode engines would do it beside their answers. With one they do."""
    for roles, most in ((["decode"], 0), (["decode", "prefill"], 10_000_000)):
        one = controller(0, replace(SETTINGS, max_conversions_per_hour=0))
        here = [local_engine(f"e-{at}", role) for at, role in enumerate(roles)]
        fleet = fleet_of([*here, remote_engine("cloud-0", waiting_tokens=500_000)], [link()])
        for second in range(100):
            one.note_arrival(float(second), 1000 + second)
            advice = one.step(float(second), fleet)
        assert advice.threshold_tokens is not None
        assert advice.threshold_tokens <= most
        assert (one.state().steps > 0) == (most > 0)


def test_the_last_decode_engine_is_replaced_at_once() -> None:
    """It is lost a while after a conversion to prefill: the one back begins when it is confirmed, not after ten
    minutes."""
    one, fleet = controller(), FluidFleet(prefill=1, decode=3, remote=1)
    seen = run(one, fleet, 400, 8.0)
    assert {role for _, role in conversions(seen)} == {"prefill"}
    last = conversions(seen)[-1][0]
    decoders = [name for name, role in fleet.roles.items() if role == "decode"]
    assert len(decoders) == 1
    here = [local_engine(name, role) for name, role in fleet.roles.items() if role != "decode"]
    lost = fleet_of([*here, remote_engine("cloud-0")], [link()])
    advised = next(at for at in range(400, 1000) if one.step(float(at), lost).conversions)
    assert advised <= 400 + SETTINGS.confirm_s + 1 < last + SETTINGS.reversal_s


def test_an_engine_that_flaps_is_not_planned_with_at_every_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes and goes each second for a minute: at once, then every five seconds, besides the plans that are due."""
    made: list[object] = []

    def counted(*args: Any, **more: Any) -> Outlook:
        made.append(args)
        return look(*args, **more)

    monkeypatch.setattr(module, "look", counted)
    one, here = controller(), [local_engine("p", "prefill"), local_engine("d", "decode")]
    for second in range(60):
        for _ in range(50):
            one.note_arrival(float(second), 1000)
        one.step(float(second), fleet_of([*here, local_engine("d-1", "decode", is_healthy=second % 2 == 0)]))
    assert 12 <= len(made) <= 16


def test_nothing_begins_by_a_plan_for_other_engines() -> None:
    """A prefill engine is lost, and one of three decode engines takes its place within the seconds in which nothing is
    planned anew: by the plan of before another one would follow."""
    one = controller(settings=replace(SETTINGS, confirm_s=0.0, dwell_s=0.0, plan_interval_s=1000.0))
    prefill, decoders = local_engine("p", "prefill"), [local_engine(f"d-{at}", "decode") for at in range(3)]

    def begun(second: int, *engines: EngineState) -> list[str]:
        for tokens in (1000, 1000, 1000, 10_000) if second % 2 else ():
            one.note_arrival(float(second), tokens)
            one.note_answer(100)
        return [each.engine for each in one.step(float(second), fleet_of(engines)).conversions]

    for second in range(200):
        assert begun(second, prefill, local_engine("p-1", "prefill"), *decoders) == []
    assert begun(200, prefill, *decoders) == ["d-0"]
    for second in range(201, 220):
        assert begun(second, prefill, local_engine("d-0", "prefill"), *decoders[1:]) == []


def test_an_impossible_pace_is_refused_at_once() -> None:
    """Rather than at the first plan."""
    with pytest.raises(ConfigError, match="fastest step"):
        TwoScaleController(512, local=cases.LOCAL, slo=Slo(1e-6))


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ({"half_life_s": 0.0}, "half_life_s"),
        ({"link_share": 1.5}, "link_share"),
        ({"link_low": 0.99}, "link_low"),
        ({"step": 1.0}, "step"),
        ({"min_decode_engines": 0}, "min_decode_engines"),
        ({"dwell_s": -1.0}, "dwell_s"),
        ({"min_threshold_tokens": 10, "max_threshold_tokens": 5}, "max_threshold_tokens"),
        ({"horizon_s": float("nan")}, "horizon_s"),
    ],
)
def test_settings_that_cannot_be_right_are_refused(wrong: dict[str, float], key: str) -> None:
    """With the key and the figure."""
    with pytest.raises(ConfigError, match=rf"controller\.{key}"):
        ControllerSettings(**wrong)  # type: ignore[arg-type]
