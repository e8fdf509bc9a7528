"""`prfaas simulate`: a scenario's file in, a table or JSON out."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from prfaas.cli import app
from prfaas.errors import ConfigError
from prfaas.planner.simulator.contestants import CONTESTANTS
from prfaas.planner.simulator.scenario_file import load_scenario

EXAMPLE = Path(__file__).parents[2] / "deploy" / "simulate" / "case_study.yaml"
PROFILE = {
    "engine": "round",
    "prefill": {"rate": {"s_per_token": 1e-3}},
    "cache": {"size": {"bytes_per_token": 1000, "state_bytes": 1_000_000}},
    "decode": [{"batch": 8, "step_s": 0.01}],
}
SCENARIO: dict[str, Any] = {
    "site": "edge",
    "engines": [
        {"name": "e", "site": "edge", "count": 2, "role": "decode", "profile": "p.yaml"},
        {"name": "c", "site": "cloud", "role": "prefill", "profile": "p.yaml"},
    ],
    "links": [{"from": "cloud", "gbps": 1}],
    "workload": {"requests_s": 0.5, "duration_s": 60, "lengths": {"tokens": [500, 3000]}, "output_tokens": 20},
    "slo": {"first_token_s": 5, "token_s": 0.02},
}


def written(folder: Path, **changes: Any) -> Path:
    """The scenario's file, with its profile beside it; None takes a key out."""
    (folder / "p.yaml").write_text(yaml.safe_dump(PROFILE))
    tree = {key: value for key, value in {**SCENARIO, **changes}.items() if value is not None}
    (folder / "s.yaml").write_text(yaml.safe_dump(tree))
    return folder / "s.yaml"


def test_json_has_every_policy_and_seed(tmp_path: Path) -> None:
    """All of them, each with a run a seed; nothing but JSON on stdout."""
    result = CliRunner().invoke(app, ["simulate", str(written(tmp_path, seeds=[1, 2])), "--json"])
    assert result.exit_code == 0, result.output
    policies = json.loads(result.stdout)["policies"]
    assert tuple(policies) == CONTESTANTS
    assert all(len(runs) == 2 and runs[0]["arrived"] == runs[0]["answered"] for runs in policies.values())


def test_the_table_has_a_column_for_each_policy_asked_for(tmp_path: Path) -> None:
    """A column, and none for another."""
    path = written(tmp_path)
    result = CliRunner().invoke(app, ["simulate", str(path), "--policy", "fixed", "--policy", "naive"])
    assert result.exit_code == 0, result.output
    heading = next(line.split() for line in result.stdout.splitlines() if "naive" in line)
    assert heading == ["naive", "fixed"]


def test_an_unknown_policy_is_named(tmp_path: Path) -> None:
    """With those that there are."""
    result = CliRunner().invoke(app, ["simulate", str(written(tmp_path)), "--policy", "best"])
    assert isinstance(result.exception, ConfigError)
    assert "best" in str(result.exception)
    assert "controller" in str(result.exception)


def test_the_example_is_valid() -> None:
    """It is what the documentation runs."""
    study = load_scenario(EXAMPLE)
    assert study.contestants == CONTESTANTS
    assert len(study.scenarios[0].fleet.engines) == 12


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"workload": None}, "either a workload or a trace"),
        ({"slo": {"first_token_s": 0, "token_s": 1}}, "slo.first_token_s"),
        ({"links": []}, "behind a link"),
        (
            {"engines": [{"name": "c", "site": "edge", "role": "prefill", "profile": "p.yaml"}]},
            "no engine there decodes",
        ),
        ({"engines": [{"name": "c", "site": "edge", "role": "decode", "profile": "no.yaml"}]}, "no.yaml"),
        ({"events": [{"at_s": 1, "kind": "bandwidth", "target": "cloud"}]}, "gbps belongs"),
        ({"speed": 1}, "speed"),
        ({"policies": ["magic"]}, "policies.0"),
    ],
)
def test_a_wrong_file_is_refused_with_the_reason(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    """The message names the file and what is wrong in it."""
    path = written(tmp_path, **changes)
    with pytest.raises(ConfigError, match=message) as caught:
        load_scenario(path)
    assert str(path.parent) in str(caught.value)


def test_an_empty_trace_is_a_clear_error(tmp_path: Path) -> None:
    """Rather than a table of zeros."""
    (tmp_path / "t.jsonl").write_text("")
    result = CliRunner().invoke(app, ["simulate", str(written(tmp_path, workload=None, trace={"path": "t.jsonl"}))])
    assert isinstance(result.exception, ConfigError)
    assert "no request" in str(result.exception)


def test_without_bandwidth_everything_stays_local(tmp_path: Path) -> None:
    """A sensible answer: nothing crosses, whatever the policy."""
    path = written(tmp_path, links=[{"from": "cloud", "gbps": 0}])
    result = CliRunner().invoke(app, ["simulate", str(path), "--json"])
    assert result.exit_code == 0, result.output
    assert {runs[0]["remote"] for runs in json.loads(result.stdout)["policies"].values()} == {0}
