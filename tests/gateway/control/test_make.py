"""The controller of a configuration, and the real one in the loop."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from prfaas.config import parse_config
from prfaas.errors import ConfigError
from prfaas.gateway.control.loop import ControlLoop
from prfaas.gateway.control.make import controller_of, settings_of
from prfaas.planner.controller.settings import ControllerSettings
from prfaas.routing.figures import PrefillRate
from tests.gateway.control.fakes import Controlled, controlled, split_tree

PROFILE = {
    "engine": "tiny",
    "prefill": {"rate": {"s_per_token": 0.001}},
    "cache": {"size": {"bytes_per_token": 1000}},
    "decode": [{"batch": 10, "step_s": 0.02}],
}


def with_profile(tree: dict[str, Any], folder: Path, **changes: object) -> dict[str, Any]:
    path = folder / "profile.yaml"
    path.write_text(yaml.safe_dump({**PROFILE, **changes}))
    tree["controller"]["profiles"] = {"local": str(path), "remote": str(path)}
    return tree


def test_defaults_are_the_controllers_own() -> None:
    """What the section leaves out is as if nobody had said anything."""
    tree = split_tree()
    del tree["controller"]
    assert settings_of(parse_config(tree)) == ControllerSettings()


def test_every_setting_of_the_section_arrives() -> None:
    """Under the same name."""
    given: dict[str, Any] = {
        "min_threshold_tokens": 3,
        "max_threshold_tokens": 90,
        "dwell_s": 7,
        "max_conversions_per_hour": 2,
    }
    settings = settings_of(parse_config(split_tree(**given)))
    assert {name: getattr(settings, name) for name in given} == given


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"prefill": {}}, "controller.profiles.local: .*profile.yaml: prefill: .*needs either points or a rate"),
        ({"decode": [{"batch": 10, "step_s": 0.2}]}, "0.2"),
    ],
)
def test_a_profile_that_cannot_be_used_stops_the_start(tmp_path: Path, change: dict[str, Any], line: str) -> None:
    """The key, the file and what is wrong are named; so is a pace that no batch keeps."""
    config = parse_config(with_profile(split_tree(slo_token_s=0.05), tmp_path, **change))
    with pytest.raises(ConfigError, match=line):
        controller_of(config)


def test_a_profile_that_is_missing_is_named() -> None:
    """With its key."""
    config = parse_config(split_tree(profiles={"local": "/nowhere/at-all.yaml"}))
    with pytest.raises(ConfigError, match=r"controller\.profiles\.local: /nowhere/at-all\.yaml: cannot be read"):
        controller_of(config)


def real(tree: dict[str, Any]) -> Controlled:
    at = controlled(tree)
    at.loop = ControlLoop(at.live, controller_of, unix_s=lambda: 1_000.0)
    return at


def ask(at: Controlled, seconds: int, per_second: int, tokens: int) -> None:
    """So many requests each second, with a look after each second."""
    for _ in range(seconds):
        for _ in range(per_second):
            at.services.demand.note_arrival(at.clock.now_s(), tokens)
            at.services.demand.note_answer(20)
        at.clock.advance(1)
        at.loop.step()


def test_a_prefill_bound_fleet_gets_another_prefill_engine(tmp_path: Path) -> None:
    """One of three engines prefills 11 requests a second, and 12 come; each of the others decodes 25. One of those is
    converted, with the reason, and the capacity in the metrics grows."""
    at = real(with_profile(split_tree(conversion_s=1, dwell_s=1), tmp_path))
    del at.tree["links"][0], at.tree["engines"]["cloud-0"]
    at.live.reload()
    ask(at, seconds=7, per_second=12, tokens=90)
    before = at.value("capacity_requests_per_second")
    ask(at, seconds=600, per_second=12, tokens=90)
    view, told = at.services.view, at.loop.overview()
    assert len(view.playing("prefill")) == 2
    assert len(view.playing("decode")) == 1
    [conversion] = [each for each in told["changes"] if each["kind"] == "conversion"]
    assert "local prefill binds" in "; ".join(conversion["reasons"])
    after = at.value("capacity_requests_per_second")
    assert before is not None
    assert after is not None
    assert after > before
    assert at.value("arrival_requests_per_second") == pytest.approx(12, rel=0.1)
    assert told["errors"] == 0


def test_without_profiles_measured_speeds_set_the_threshold() -> None:
    """One engine elsewhere is ten times as fast: t is planned from what the gateway measured, so that nothing is
    prefilled here, and no engine is converted. What no request limits is null in JSON."""
    tree = split_tree()
    tree["policy"]["threshold_tokens"] = 50
    at = real(tree)
    for name, s_per_token in (("edge-2", 0.01), ("cloud-0", 0.001)):
        at.services.view.set_rate(name, PrefillRate(0.0, s_per_token, source="measured"))
    ask(at, seconds=60, per_second=4, tokens=40)
    ask(at, seconds=60, per_second=4, tokens=90)
    told = msgspec.json.decode(msgspec.json.encode(at.loop.overview()))
    assert (told["errors"], told["last_error"]) == (0, "")
    assert told["state"]["now"]["threshold_tokens"] == told["state"]["planned_threshold_tokens"]
    stages = {each["name"]: each["requests_s"] for each in told["state"]["now"]["stages"]}
    assert stages["local prefill"] is None
    assert stages["remote prefill"] > 0
    [change] = [each for each in told["changes"] if each["kind"] == "threshold"]
    assert change["what"].startswith("threshold from 50 to ")
    assert told["threshold_tokens"] < 40
    assert not [each for each in told["changes"] if each["kind"] == "conversion"]


def test_one_of_several_workers_judges_no_division(tmp_path: Path) -> None:
    """It sees a part of the requests and all of the engines: where a worker alone would have engines converted it says
    what it lacks."""
    pending, waits_for = [], []
    for workers in (1, 2):
        tree = with_profile(split_tree("shadow"), tmp_path)
        del tree["links"][0], tree["engines"]["cloud-0"]
        tree["gateway"]["workers"] = workers
        at = real(tree)
        ask(at, seconds=140, per_second=12, tokens=90)
        state = at.loop.overview()["state"]
        pending.append(len(state["pending"]))
        waits_for.append(state["waits_for"])
    assert pending == [1, 0]
    assert "gateway.workers" not in waits_for[0]
    assert "gateway.workers: 1 before a division is judged: this is one of 2" in waits_for[1]


def test_a_profile_that_is_measured_again_is_followed(tmp_path: Path) -> None:
    """In the same file, at the next reload, which says so; one without a change keeps what was learnt."""
    tree = with_profile(split_tree(), tmp_path)
    at = real(tree)
    ask(at, seconds=2, per_second=1, tokens=40)
    assert str(at.live.reload()) == "nothing changed"
    assert at.loop.overview()["state"]["estimates"]["requests"] == 2
    with_profile(tree, tmp_path, decode=[{"batch": 10, "step_s": 0.03}])
    assert str(at.live.reload()) == "changed controller"
    assert at.loop.overview()["state"]["estimates"]["requests"] == 0


@pytest.mark.parametrize("content", ["decode: 3", None])
def test_reload_refuses_a_profile_that_cannot_be_used(tmp_path: Path, content: str | None) -> None:
    """Nothing of the file is followed, and the controller goes on as it was."""
    at = real(with_profile(split_tree(), tmp_path))
    file = tmp_path / "profile.yaml"
    file.write_text(content) if content else file.unlink()
    at.tree["policy"]["threshold_tokens"] = 7
    with pytest.raises(ConfigError, match=r"controller\.profiles\.local: .*profile\.yaml"):
        at.live.reload()
    ask(at, seconds=2, per_second=1, tokens=40)
    told = at.loop.overview()
    assert (told["errors"], told["looks"], told["configured_threshold_tokens"]) == (0, 2, 5)


def test_another_setting_forgets_no_conversion(tmp_path: Path) -> None:
    """One that was advised is still waited for although a reload has made another controller."""
    at = real(with_profile(split_tree("shadow"), tmp_path))
    del at.tree["links"][0], at.tree["engines"]["cloud-0"]
    at.live.reload()
    ask(at, seconds=140, per_second=12, tokens=90)
    before = at.loop.overview()["state"]
    at.tree["controller"]["dwell_s"] = 70
    at.live.reload()
    after = at.loop.overview()["state"]
    assert before["pending"]
    assert (after["pending"], after["estimates"]["requests"]) == (before["pending"], 0)


def test_too_little_is_said_in_words() -> None:
    """Before enough requests have come the plan says what it waits for, and t stays as configured."""
    at = real(split_tree())
    ask(at, seconds=2, per_second=1, tokens=40)
    told = at.loop.overview()
    assert "more requests" in told["state"]["waits_for"]
    assert (told["threshold_tokens"], told["changes"]) == (5, [])
