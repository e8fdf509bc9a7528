"""The page of metrics is that of the code, and the names are what Prometheus' conventions ask for."""

import re
from pathlib import Path

import pytest

from prfaas.observe.catalogue import BEGIN, END, LABELS, page_with, tables, unit_of
from prfaas.observe.definitions import Definition
from prfaas.observe.metrics import Metrics

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
DEFINITIONS = Metrics().definitions


def test_page_is_up_to_date() -> None:
    """`make metrics-table` would change nothing."""
    page = PAGE.read_text(encoding="utf-8")
    assert page_with(page, tables(DEFINITIONS)) == page, "run make metrics-table"


def test_everything_exposed_is_defined() -> None:
    """The table has what the gateway tells, name for name and type for type, and nothing else."""
    told = re.findall(r"^# TYPE (\S+) (\S+)$", Metrics().exposition().decode(), flags=re.MULTILINE)
    assert sorted(told) == sorted((each.name, each.kind) for each in DEFINITIONS)


def test_every_label_says_where_its_values_come_from() -> None:
    """No label without a bound, and none that is described and gone."""
    assert {label for each in DEFINITIONS for label in each.labels} == LABELS.keys()


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda each: each.name)
def test_names_keep_the_conventions(definition: Definition) -> None:
    """Snake case, ours or a standard one, base units in full, ``_total`` for counters alone."""
    name = definition.name
    assert re.fullmatch(r"(prfaas|process)(_[a-z]+)+", name)
    assert name.endswith("_total") == (definition.kind == "counter")
    assert not re.search(r"_(ms|s|kb|mb|gb|mib|gbps|percent|rate|milliseconds|megabytes)(_|$)", name)
    assert definition.text.endswith(".")


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("a_seconds", "seconds"),
        ("a_bytes_total", "bytes"),
        ("a_bytes_per_second", "bytes/s"),
        ("a_ratio", "ratio"),
        ("a_requests_total", "1"),
    ],
)
def test_units_come_from_names(name: str, unit: str) -> None:
    """A unit is the end of the name."""
    assert unit_of(name) == unit


def test_only_the_part_between_the_marks_is_made() -> None:
    """What people wrote around it stays; a page without marks is refused."""
    assert page_with(f"a\n{BEGIN}\nold\n{END}\nb\n", "new") == f"a\n{BEGIN}\nnew\n{END}\nb\n"
    with pytest.raises(ValueError, match="no part between"):
        page_with("a\n", "new")
