"""The alert rules are Prometheus', fire when they should, and lead to what to do."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.promql import RULES, rules
from tests.deploy.server import program

ROOT = Path(__file__).parents[2]
CASES = Path(__file__).parent / "alerts_test.yaml"
NAMES = [str(rule["alert"]) for rule in rules()]


def promtool(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [program("promtool"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_rules_and_configuration_are_valid(tmp_path: Path) -> None:
    """promtool finds nothing wrong; the paths are those in the container."""
    assert promtool("check", "rules", RULES).returncode == 0
    text = (RULES.parent / "prometheus.yml").read_text().replace("/etc/prometheus", str(RULES.parent))
    (tmp_path / "operator.key").write_text("key")
    (tmp_path / "prometheus.yml").write_text(text.replace("/secrets", str(tmp_path)))
    checked = promtool("check", "config", tmp_path / "prometheus.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_alertmanagers_are_asked_for_by_a_file() -> None:
    """Which names none as it comes, and whose example is one that Prometheus takes."""
    text = (RULES.parent / "alertmanagers.yaml").read_text()
    assert yaml.safe_load(text) == []
    (example,) = re.findall(r"^# (- .+)$", text, flags=re.MULTILINE)
    assert yaml.safe_load(example) == [{"targets": ["alertmanager.example:9093"]}]


def test_alerts_fire_when_they_should(tmp_path: Path) -> None:
    """Series that people would be woken for, and the same a little better: promtool runs the rules on both."""
    cases = tmp_path / "cases.yaml"
    cases.write_text(CASES.read_text().replace("[alerts.yaml]", f"[{RULES}]"))
    tested = promtool("test", "rules", cases)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_every_alert_is_tested_both_ways() -> None:
    """All fire in the first case and none in the second, which has the same series."""
    broken, well = yaml.safe_load(CASES.read_text())["tests"]
    expected = [moment["exp_samples"] for case in (broken, well) for moment in case["promql_expr_test"]]
    assert [each["labels"] for each in expected[0]] == [f'{{alertname="{name}"}}' for name in NAMES]
    assert expected[1] == []
    assert [each["series"] for each in broken["input_series"]] == [each["series"] for each in well["input_series"]]


@pytest.mark.parametrize("rule", rules(), ids=NAMES)
def test_alert_leads_to_what_to_do(rule: dict[str, Any]) -> None:
    """A severity, a sentence, and a heading of its own in docs/operations.md."""
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"].endswith(".")
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert anchor == rule["alert"].lower()
    assert rule["alert"] in headings


def test_no_heading_is_left_of_an_alert_that_is_gone() -> None:
    """Headings below "What each alert means" are those of the rules, in their order."""
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert re.findall(r"^### (Prfaas\w+)$", page, flags=re.MULTILINE) == NAMES
