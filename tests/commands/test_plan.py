"""`prfaas plan` from file and options to tables and JSON.

By hand, as in tests/planner/test_search.py: a remote engine does 1 long request/s and one in four is long, so 4 of all.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from prfaas.planner.built_in import find_profile
from prfaas.planner.hardware import Hardware
from prfaas.planner.search import all_local, all_remote, plan, purchases
from prfaas.planner.trace import read_trace
from prfaas.planner.trace_summary import summarise
from prfaas.planner.workload import Slo
from tests.commands import plans

EXAMPLES = Path(__file__).parents[2] / "deploy" / "plan"
Run = Callable[..., int]
Capture = pytest.CaptureFixture[str]


def planned(run: Run, capsys: Capture, *arguments: object) -> dict[str, Any]:
    """What `--json` prints."""
    assert run("plan", *arguments, "--json") == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def test_the_figures_are_the_planners(run: Run, capsys: Capture, tmp_path: Path) -> None:
    """plan.json holds what `search` says, to the last digit."""
    told = planned(run, capsys, plans.folder(tmp_path))
    hardware = Hardware(
        find_profile("local.yaml", tmp_path), 2, find_profile("remote.yaml", tmp_path), 1, egress_bytes_s=125e6
    )
    asked = hardware, summarise(read_trace(tmp_path / "trace.jsonl")).workload(), Slo(0.02)
    for key, expected in (
        (told["plan"], plan(*asked)),
        (told["baselines"]["all_local"], all_local(*asked)),
        (told["baselines"]["all_remote"], all_remote(*asked)),
    ):
        assert {name: key[name] for name in asdict(expected)} == json.loads(json.dumps(asdict(expected)))
    gains = [(each["what"], each["gain_requests_s"]) for each in told["purchases"]]
    assert gains == [(each.what, each.gain_requests_s) for each in purchases(*asked)]


def test_a_plan_by_hand(run: Run, capsys: Capture, tmp_path: Path) -> None:
    """4 requests/s at the remote engine's limit, 10 MB caches at one a second, and a trace of four a second."""
    told = planned(run, capsys, plans.folder(tmp_path, workload={"trace": "trace.jsonl"}))
    assert told["plan"]["binding"] == "remote prefill"
    # 41 requests: 31 short and 10 long ones.
    assert told["plan"]["requests_s"] == pytest.approx(4.1)
    assert told["bandwidth"] == pytest.approx({"there_gbps": 1.0, "needed_gbps": 0.08, "enough_gbps": 0.08})
    assert told["workload"]["trace"]["requests_s"] == pytest.approx(4.1)
    assert told["next_purchase"] == "1 more remote engine"


def test_the_table_says_all_of_it(run: Run, capsys: Capture, tmp_path: Path) -> None:
    """Plan, stages, baselines, bandwidth, what binds, purchases and load."""
    assert run("plan", plans.folder(tmp_path)) == 0
    out = " ".join(capsys.readouterr().out.split())
    for said in (
        "of 2 local engines 1 prefill and 1 decode: 4.1 requests/s at most, where remote prefill binds.",
        "100% binds",
        "all local",
        "all remote",
        "0.08 Gbit/s of 1 Gbit/s on average (8%)",
        "1 more remote engine",
        "41 requests came at 4.1 a second on average, 100% of what this fleet serves at most: there is no room",
    ):
        assert said in out


def test_options_take_the_files_place(run: Run, capsys: Capture, tmp_path: Path) -> None:
    """Each option, and what the file says of the rest."""
    file = plans.folder(tmp_path)
    other = tmp_path / "other.jsonl"
    other.write_bytes(b"".join(plans.lines(4)))
    options = ["--local-engines", 5, "--remote-engines", 3, "--bandwidth-gbps", 2.5, "--token-slo-ms", 30]
    options += ["--first-token-p90-s", 4, "--averaging", "each_length", "--trace", other]
    told = planned(run, capsys, file, *options)["input"]
    assert told["fleet"]["local"] == {"profile": "local.yaml", "engines": 5}
    assert told["fleet"]["remote"] == {"profile": "remote.yaml", "engines": 3}
    assert told["link"] == {"bandwidth_gbps": 2.5}
    assert told["slo"] == {"token_ms": 30, "first_token_p90_s": 4}
    assert (told["averaging"], told["workload"]["trace"]) == ("each_length", str(other))


def test_no_file_is_needed(run: Run, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options alone, with a built-in profile and paths that begin where the program runs."""
    plans.folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    options = ["--local-profile", "paper_h20", "--local-engines", 8, "--trace", "trace.jsonl", "--token-slo-ms", 25]
    told = planned(run, capsys, *options)
    assert told["plan"]["reasons"] == ["all local: there is no remote engine"]
    assert told["input"]["workload"]["trace"] == "trace.jsonl"


def test_paths_of_the_file_begin_where_it_is(
    run: Run, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Called from elsewhere, the file's profiles are found, and an option's trace is that of the current folder."""
    (tmp_path / "there").mkdir()
    plans.folder(tmp_path / "there")
    (tmp_path / "here.jsonl").write_bytes(b"".join(plans.lines(4)))
    monkeypatch.chdir(tmp_path)
    told = planned(run, capsys, "there/plan.yaml", "--trace", "here.jsonl")
    assert told["workload"]["trace"]["requests"] == 4
    assert told["input"]["workload"]["trace"] == "../here.jsonl"


def test_the_case_study_is_the_papers(run: Run, capsys: Capture) -> None:
    """The example gives the paper's threshold and division."""
    told = planned(run, capsys, EXAMPLES / "case_study.yaml")
    assert told["plan"]["threshold_tokens"] == 19_400
    assert (told["plan"]["prefill_engines"], told["plan"]["decode_engines"]) == (3, 5)
    assert told["plan"]["requests_s"] == pytest.approx(3.24, rel=0.04)
    assert any("circular" in each for each in told["plan"]["caveats"])


def test_the_mooncake_example_plans_any_trace(run: Run, capsys: Capture, tmp_path: Path) -> None:
    """With a trace in its place; answers are as long as the trace says."""
    plans.folder(tmp_path)
    told = planned(run, capsys, EXAMPLES / "mooncake.yaml", "--trace", tmp_path / "trace.jsonl")
    assert told["workload"]["output_mean_tokens"] == 100


def test_a_trace_brings_its_own_answers(run: Run, capsys: Capture, tmp_path: Path) -> None:
    """The file's distribution and its answers go together."""
    plans.folder(tmp_path)
    told = planned(run, capsys, EXAMPLES / "case_study.yaml", "--trace", tmp_path / "trace.jsonl")
    assert told["workload"]["output_mean_tokens"] == 100
    assert "log_normal" not in told["input"]["workload"]


def test_the_schema_knows_every_key(run: Run, capsys: Capture) -> None:
    """For editors; with what a key means."""
    assert run("plan", "--schema") == 0
    schema = json.loads(capsys.readouterr().out)
    assert {"fleet", "link", "workload", "slo", "averaging"} <= set(schema["properties"])
    assert "Gbit/s" in schema["$defs"]["LinkSection"]["properties"]["bandwidth_gbps"]["description"]


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"links": {}}, "links: unknown key, did you mean 'link'?"),
        (
            {"fleet": {"local": {"profile": "local.yaml", "engines": 2}, "remote": {"profil": "x", "engines": 1}}},
            "'profile'",
        ),
        ({"slo": {}}, "slo.token_ms: is missing: give it in the file or with --token-slo-ms"),
        ({"slo": {"token_ms": 0}}, "slo.token_ms: 0: "),
        (
            {"slo": {"token_ms": 0.02}},
            "slo.token_ms: an objective of 2e-05 s a token: this engine's fastest step takes 0.02",
        ),
        ({"link": {"bandwidth_gbps": 1e9}}, "link.bandwidth_gbps: 1000000000.0: no link has that: the unit is Gbit/s"),
        ({"link": {"bandwidth_gbps": 1e-6}}, "link.bandwidth_gbps: 1e-06: carries no caches: the unit is Gbit/s"),
        ({"link": {"bandwidth_gbps": -1}}, "link.bandwidth_gbps: -1"),
        ({"link": {"bandwidth_gbps": float("nan")}}, "link.bandwidth_gbps: nan"),
        ({"workload": {}}, "workload: {}: needs either log_normal or a trace (--trace)"),
        ({"workload": {"trace": "none.jsonl"}}, "none.jsonl: cannot be read: No such file"),
        ({"workload": {"trace": "local.yaml"}}, "local.yaml:1: "),
        ({"workload": {"log_normal": {"mu": 9, "sigma": 1, "min_tokens": 1, "max_tokens": 9}}}, "give output_tokens"),
        (
            {"workload": {"output_tokens": 9, "log_normal": {"mu": 9, "sigma": 1, "min_tokens": 9, "max_tokens": 1}}},
            "workload: lengths: log-normal",
        ),
        (
            {"workload": {"output_tokens": 9, "log_normal": {"mu": 9, "sigma": 1, "min_tokens": 9, "max_tokens": 1e5}}},
            "fleet.remote.profile: remote: prompts of 100000 tokens: the profile ends at 10000",
        ),
        (
            {"fleet": {"local": {"profile": "paper_h2000", "engines": 2}}},
            "no built-in profile of that name: there are paper_h20,",
        ),
        ({"fleet": {"local": {"profile": "remote.yaml", "engines": 2}}}, "the profile says nothing of decode"),
        (
            {"fleet": {"local": {"profile": "local.yaml", "engines": 1}}},
            "1 local engines, 0 of which prefill, serve nothing",
        ),
        ({"fleet": 3}, "fleet: 3: "),
    ],
)
def test_wrong_files_are_told(
    run: Run, capsys: Capture, tmp_path: Path, sections: dict[str, Any], message: str
) -> None:
    """Exit code 2 and one line with the key, the value and the way out."""
    assert run("plan", plans.folder(tmp_path, **sections)) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert not captured.out


@pytest.mark.parametrize(
    ("prefill", "message"),
    [
        ([(1000, 0.2)], "1 point: nothing says how it grows with the prompt: measure two lengths"),
        ([(1000, 0.2), (2000, 0.1)], "longer prompts are never less work"),
        ([(1000, 200.0), (10_000, 2000.0)], "are these milliseconds"),
    ],
)
def test_wrong_profiles_are_told(
    run: Run, capsys: Capture, tmp_path: Path, prefill: list[tuple[int, float]], message: str
) -> None:
    """One point, falling latencies, another unit: with the profile's file."""
    file = plans.folder(tmp_path)
    points = [{"tokens": tokens, "seconds": seconds} for tokens, seconds in prefill]
    profile = {**plans.REMOTE, "prefill": {"points": points}}
    (tmp_path / "remote.yaml").write_text(yaml.safe_dump(profile))
    assert run("plan", file) == 2
    error = capsys.readouterr().err
    assert "fleet.remote.profile: " in error
    assert "remote.yaml: prefill: " in error
    assert message in error


def test_an_empty_trace_is_told(run: Run, capsys: Capture, tmp_path: Path) -> None:
    """Nothing to plan for is not a plan."""
    file = plans.folder(tmp_path)
    (tmp_path / "trace.jsonl").write_bytes(b"\n")
    assert run("plan", file) == 2
    assert "no request in 1 lines" in capsys.readouterr().err


def test_a_trace_of_one_moment_has_no_rate(run: Run, capsys: Capture, tmp_path: Path) -> None:
    """One request: a plan, and nothing said of a load."""
    file = plans.folder(tmp_path)
    (tmp_path / "trace.jsonl").write_bytes(b"".join(plans.lines(1)))
    assert run("plan", file) == 0
    assert "came at" not in capsys.readouterr().out


def test_zero_bandwidth_keeps_all_local(run: Run, capsys: Capture, tmp_path: Path) -> None:
    """A plan, its reason, and how much of a link would be enough."""
    file = plans.folder(tmp_path, link={"bandwidth_gbps": 0})
    assert run("plan", file) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Keep every prefill local" in out
    assert "all local: the remote site has no link" in out
    assert "There is no link. With one, 0.08 Gbit/s would be enough" in out
    told = planned(run, capsys, file)
    assert (told["plan"]["threshold_tokens"], told["baselines"]["all_remote"]) == (None, None)


def test_an_objective_out_of_reach_is_a_reason(run: Run, capsys: Capture, tmp_path: Path) -> None:
    """The best plan all the same, and that it misses the objective."""
    told = planned(run, capsys, plans.folder(tmp_path), "--first-token-p90-s", 0.05)
    assert "0.05 s for the first token is missed" in told["plan"]["reasons"][0]


def test_missing_matplotlib_is_told_first(
    run: Run, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is read; the tables need none."""
    import importlib.util

    file = plans.folder(tmp_path)
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else found(name))
    assert run("plan", file, "--out", tmp_path / "out") == 1
    assert "pip install 'prfaas[plan]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert run("plan", file) == 0


def test_a_folder_that_cannot_be_written_is_told(run: Run, capsys: Capture, tmp_path: Path) -> None:
    """A file in its place."""
    file = plans.folder(tmp_path)
    assert run("plan", file, "--out", file) == 2
    assert "cannot be written to" in capsys.readouterr().err


def test_a_fleet_that_is_too_small_is_said_to_be(run: Run, capsys: Capture, tmp_path: Path) -> None:
    """Eight requests a second come, and four are served."""
    file = plans.folder(tmp_path)
    (tmp_path / "trace.jsonl").write_bytes(b"".join(plans.lines(41, every_ms=125)))
    assert run("plan", file) == 0
    assert "it is too small, and queues grow without end" in " ".join(capsys.readouterr().out.split())


def test_without_a_remote_engine_no_link_is_recommended(run: Run, capsys: Capture, tmp_path: Path) -> None:
    """There is a profile, so an engine could be bought; bandwidth alone brings nothing."""
    fleet = plans.tree()["fleet"]
    fleet["remote"]["engines"] = 0
    assert run("plan", plans.folder(tmp_path, fleet=fleet)) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "No remote engine, so nothing crosses a link." in out
    assert "buy next 1 more remote engine" in out
