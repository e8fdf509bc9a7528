"""What is done of what a controller says, by mode."""

import asyncio
import logging
import math
from unittest.mock import Mock

import pytest

from prfaas.planner.controller.advice import Advice, Conversion
from tests.gateway.control.fakes import controlled, split_tree

TO_PREFILL = Conversion("edge-1", "prefill")
WHY = ("prefill binds",)


def test_on_sets_the_threshold_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    """The next placement has it; log, history and metrics tell."""
    with caplog.at_level(logging.INFO):
        at = controlled()
        at.look(Advice(9, reasons=WHY))
    assert at.services.view.policy.threshold_tokens == 9
    assert at.changes() == [("threshold", "threshold from 5 to 9 tokens")]
    assert "controller (on): threshold from 5 to 9 tokens: prefill binds" in caplog.text
    assert at.value("threshold_tokens") == at.value("wanted_threshold_tokens") == 9
    assert at.value("changes_total", kind="threshold", mode="on") == 1
    assert [at.value("mode", mode=mode) for mode in ("off", "shadow", "on")] == [0, 0, 1]


def test_no_threshold_keeps_every_prompt_here() -> None:
    """None is as long as the model's longest prompt."""
    at = controlled()
    at.look(Advice(None, reasons=WHY))
    assert at.services.view.policy.threshold_tokens == 100


def test_shadow_says_everything_once_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Threshold and roles stay those of the file however often it looks; what it would do is told, and told again only
    after it was not wanted in between."""
    with caplog.at_level(logging.INFO):
        at = controlled(split_tree("shadow"))
        for _ in range(3):
            at.look(Advice(9, (TO_PREFILL,), WHY))
    view = at.services.view
    assert (view.policy.threshold_tokens, view.roles("edge-1")) == (5, ("decode",))
    assert not any(status.is_draining for status in at.services.fleet.statuses())
    would = [
        ("threshold", "would set the threshold from 5 to 9 tokens"),
        ("conversion", "would convert edge-1 to prefill"),
    ]
    assert at.changes() == would
    assert "controller (shadow): would convert edge-1 to prefill: prefill binds" in caplog.text
    assert (at.value("threshold_tokens"), at.value("wanted_threshold_tokens")) == (5, 9)
    at.look(Advice(9))
    at.look(Advice(9, (TO_PREFILL,), WHY))
    assert at.changes() == [*would, would[1]]


def test_shadow_follows_its_own_wishes_in_what_it_says() -> None:
    """Back to the file's threshold is a change of mind, and told as such."""
    at = controlled(split_tree("shadow"))
    for threshold in (5, 9, 9, None, 5):
        at.look(Advice(threshold, reasons=WHY))
    assert [what for _, what in at.changes() if "threshold" in what] == [
        "would set the threshold from 5 to 9 tokens",
        "would set the threshold from 9 to 100 tokens",
        "would set the threshold from 100 to 5 tokens",
    ]


def test_another_controller_says_it_again() -> None:
    """What the one before a reload has said is not what this one wants."""
    at = controlled(split_tree("shadow"))
    at.look(Advice(9, (TO_PREFILL,), WHY))
    said = at.changes()
    at.tree["controller"]["dwell_s"] = 70
    at.live.reload()
    at.look(Advice(9, (TO_PREFILL,), WHY))
    assert len(said) == 2
    assert at.changes() == said * 2


def test_brief_moves_hide_nothing() -> None:
    """A threshold that goes up and down with queues is logged and counted each time, and kept apart."""
    at = controlled()
    at.look(Advice(9, reasons=WHY))
    for number in range(50):
        at.look(Advice(10 + number % 2, reasons=("a queue",), is_brief=True))
    told = at.loop.overview()
    assert [each["what"] for each in told["changes"]] == ["threshold from 5 to 9 tokens"]
    assert len(told["brief_changes"]) == 20
    assert told["brief_changes"][0]["what"] == "threshold from 10 to 11 tokens"
    assert at.value("changes_total", kind="threshold", mode="on") == 51


def test_nothing_is_looked_at_before_every_engine_was_heard_of() -> None:
    """At the start of a gateway all engines look lost; one that is added later holds nothing up."""
    at = controlled()
    at.services.fleet.keep(at.services.config.engines, changed={"cloud-0"})
    at.look()
    assert at.controller.fleets == []
    at.services.fleet.note("cloud-0", "gone")
    at.look()
    at.services.fleet.keep(at.services.config.engines, changed={"edge-0"})
    at.look()
    assert len(at.controller.fleets) == 2


def test_off_asks_nobody() -> None:
    """No controller is made, and what was noted is not kept."""
    at = controlled(split_tree("off"))
    at.services.demand.note_arrival(100, 7)
    at.look()
    assert (at.made, at.services.demand.take().arrivals) == ([], ())
    assert at.loop.overview()["mode"] == "off"


def test_demand_reaches_the_controller_before_its_step() -> None:
    """Arrivals with their time and answers, each once."""
    at = controlled()
    at.services.demand.note_arrival(100.5, 7)
    at.services.demand.note_answer(3)
    at.look()
    at.look()
    assert (at.controller.arrivals, at.controller.answers) == ([(100.5, 7)], [3])


def test_a_look_takes_no_turn() -> None:
    """Requests go on taking turns over equal engines as if nobody looked."""
    at = controlled()
    before = at.services.view.snapshot().turn
    at.look()
    assert at.services.view.snapshot().turn == before + 1


def test_an_error_is_counted_and_the_next_look_comes(caplog: pytest.LogCaptureFixture) -> None:
    """Threshold and roles stay; the same error is logged once in a row."""
    at = controlled()
    at.look(Advice(9, reasons=WHY))
    for _ in range(3):
        at.look(ValueError("no such curve"))
    assert at.services.view.policy.threshold_tokens == 9
    assert at.value("errors_total") == 3
    assert caplog.text.count("the controller failed") == 1
    told = at.loop.overview()
    assert (told["errors"], told["last_error"]) == (3, "ValueError: no such curve")
    at.look(Advice(8, reasons=WHY))
    assert (at.services.view.policy.threshold_tokens, at.loop.overview()["last_error"]) == (8, "")


def test_a_controller_that_cannot_speak_hides_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Status and plan are wanted most when something is broken: they tell of the rest, and what is wrong."""
    at = controlled()
    monkeypatch.setattr(at.controller, "state", Mock(side_effect=ValueError("no such curve")))
    at.look(Advice(9))
    seen, told = at.loop.seen, at.loop.overview()
    assert (seen.state, seen.error, seen.advice) == (None, "ValueError: no such curve", Advice(9))
    assert (told["state"], told["last_error"], told["threshold_tokens"]) == (None, "ValueError: no such curve", 9)


async def test_the_loop_waits_its_interval_and_survives() -> None:
    """It looks, waits as configured, and looks again, errors or not."""
    at, waits = controlled(), []
    at.controller.script.extend([ValueError("once"), Advice(9, reasons=WHY)])

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            raise asyncio.CancelledError

    at.loop._sleep = sleep
    with pytest.raises(asyncio.CancelledError):
        await at.loop.run()
    assert waits == [0.005] * 3
    assert at.services.view.policy.threshold_tokens == 9


def test_reasons_without_a_change_are_told() -> None:
    """What the controller has to say besides is kept, too."""
    at = controlled()
    at.look(Advice(5, reasons=("cloud is back, and not trusted yet",)))
    assert at.changes() == [("note", "cloud is back, and not trusted yet")]


def test_reload_keeps_what_was_steered() -> None:
    """Another section changes: the threshold stays where the controller set it, and the controller learns on."""
    at = controlled()
    at.look(Advice(9, reasons=WHY))
    at.tree["links"][0]["bandwidth_gbps"] = 5
    at.live.reload()
    assert at.services.view.policy.threshold_tokens == 9
    at.look()
    assert len(at.made) == 1


def test_the_files_threshold_counts_when_it_is_changed() -> None:
    """Until the controller looks again: it has the last word while it is on."""
    at = controlled()
    at.look(Advice(9, reasons=WHY))
    at.tree["policy"]["threshold_tokens"] = 7
    at.live.reload()
    assert at.services.view.policy.threshold_tokens == 7
    at.look()
    assert at.services.view.policy.threshold_tokens == 9


@pytest.mark.parametrize("mode", ["off", "shadow"])
def test_switched_off_the_file_holds_again(mode: str) -> None:
    """A reload to another mode brings back threshold and roles, and lets go of an engine in conversion."""
    at = controlled()
    at.look(Advice(9, (TO_PREFILL,), WHY))
    at.look(Advice(9))
    assert at.services.view.roles("edge-1") == ("prefill",)
    with at.services.fleet.load("edge-2"):
        at.look(Advice(9, (Conversion("edge-2", "decode"),), WHY))
        at.tree["controller"]["mode"] = mode
        assert "controller" in str(at.live.reload())
        at.look(Advice(9))
    view = at.services.view
    assert (view.policy.threshold_tokens, view.roles("edge-1"), view.roles("edge-2")) == (5, ("decode",), ("prefill",))
    assert not at.services.fleet.status("edge-2").is_draining
    assert ("given_up", f"edge-2 is not converted to decode: the controller is {mode} now") in at.changes()


def test_switched_off_no_figure_is_left() -> None:
    """What it wanted and knew before looks like nothing of now; the threshold in force is the file's."""
    at = controlled()
    at.look(Advice(9, reasons=WHY))
    at.tree["controller"]["mode"] = "off"
    at.live.reload()
    at.look()
    names = ("wanted_threshold_tokens", "arrival_requests_per_second", "capacity_requests_per_second")
    values = [at.value(name) for name in names]
    assert all(math.isnan(value) for value in values if value is not None)
    assert None not in values
    assert at.value("threshold_tokens") == 5


def test_switched_on_it_does_what_it_said() -> None:
    """The controller has learnt in shadow and goes on; back in shadow it says what it would do from there on."""
    at = controlled(split_tree("shadow"))
    at.look(Advice(9, reasons=WHY))
    for mode in ("on", "shadow"):
        at.tree["controller"]["mode"] = mode
        at.live.reload()
        at.look(Advice(9, reasons=WHY))
    told = [what for kind, what in at.changes() if kind == "threshold"]
    would = "would set the threshold from 5 to 9 tokens"
    assert told == [would, "threshold from 5 to 9 tokens", would]
    assert len(at.made) == 1


def test_another_setting_makes_another_controller() -> None:
    """What it was made of has changed, so it learns anew."""
    at = controlled()
    at.look()
    at.tree["controller"]["dwell_s"] = 7
    at.live.reload()
    at.look()
    assert [config.controller.dwell_s for config in at.made][-2:] == [60, 7]
