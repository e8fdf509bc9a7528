"""docs/planning.md says what `prfaas plan` says of the examples."""

from pathlib import Path

import pytest
import yaml

from prfaas.commands.planning import words
from prfaas.commands.planning.plan_file import OPTIONS, parse_plan_file
from prfaas.commands.planning.scenario import load_scenario
from prfaas.planner.study import study

ROOT = Path(__file__).parents[2]
PAGE = " ".join((ROOT / "docs" / "planning.md").read_text(encoding="utf-8").split())
EXAMPLES = sorted((ROOT / "deploy" / "plan").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_valid(path: Path) -> None:
    """Every key of theirs is known."""
    assert parse_plan_file(yaml.safe_load(path.read_text(encoding="utf-8"))).title


def test_the_page_says_the_case_studys_plan() -> None:
    """Threshold, division, requests/s and what binds; P90 of the plan and all local."""
    file = ROOT / "deploy" / "plan" / "case_study.yaml"
    found = study(load_scenario(parse_plan_file(yaml.safe_load(file.read_text())), file.parent).question)
    assert words.verdict(found).lower() in PAGE.lower()
    assert found.all_local is not None
    p90s = f"{found.plan.first_token_p90_s:.3g} s, {found.all_local.first_token_p90_s:.3g} s if all were local"
    assert p90s in PAGE


def test_the_pages_file_is_the_example() -> None:
    """Shown as it is in deploy/plan, but for the comments."""
    shown = next(part for part in (ROOT / "docs" / "planning.md").read_text().split("```") if "fleet:" in part)
    example = yaml.safe_load((ROOT / "deploy" / "plan" / "mooncake.yaml").read_text(encoding="utf-8"))
    assert yaml.safe_load(shown) == example


def test_every_option_overrides_a_key() -> None:
    """The table of options names keys that the file has."""
    schema = parse_plan_file(yaml.safe_load(EXAMPLES[0].read_text())).model_json_schema()
    for key in OPTIONS:
        node = schema
        for part in key.split("."):
            node = node["properties"][part]
            reference = next((each["$ref"] for each in (node, *node.get("anyOf", ())) if "$ref" in each), None)
            node = schema["$defs"][reference.rsplit("/", 1)[-1]] if reference else node
