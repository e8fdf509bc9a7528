"""Which engines and links can be used."""

from typing import Any

import pytest

from prfaas.planner.controller.stock import stock_of
from tests.planner.controller.fluid import fleet_of, link, local_engine, remote_engine

CAPACITIES = {"cloud": 1e9, "far": 2e9}


def test_engines_by_role() -> None:
    """Local ones by what they do; those elsewhere by site, if a link leads from there."""
    fleet = fleet_of(
        [
            local_engine("p", "prefill"),
            local_engine("d", "decode"),
            local_engine("b", "prefill", "decode"),
            remote_engine("cloud-0"),
            remote_engine("cloud-1"),
            remote_engine("lonely-0", "lonely"),
        ],
        [link(), link(source="far")],
    )
    stock = stock_of(fleet, CAPACITIES)
    assert [[each.name for each in group] for group in (stock.prefill, stock.decode, stock.shared)] == [
        ["p"],
        ["d"],
        ["b"],
    ]
    assert [(source.site, len(source.engines), source.capacity_bytes_s) for source in stock.sources] == [
        ("cloud", 2, 1e9)
    ]
    assert stock.counts == (1, 1, 1, 2)
    assert stock.capacity_bytes_s == 1e9


@pytest.mark.parametrize("trouble", [{"is_healthy": False}, {"is_broken": True}, {"is_draining": True}])
def test_engines_that_take_no_requests_are_not_there(trouble: dict[str, Any]) -> None:
    """Here or elsewhere."""
    fleet = fleet_of([local_engine("d", "decode", **trouble), remote_engine("cloud-0", **trouble)], [link()])
    assert stock_of(fleet, CAPACITIES).counts == (0, 0, 0, 0)


@pytest.mark.parametrize("trouble", [{"is_broken": True}, {"budget_left_bytes": 0.0}])
def test_a_site_behind_a_closed_link_is_not_there(trouble: dict[str, Any]) -> None:
    """Broken, or with its budget spent."""
    assert not stock_of(fleet_of([remote_engine("cloud-0")], [link(**trouble)]), CAPACITIES).sources
    assert not stock_of(fleet_of([remote_engine("cloud-0")], [link()]), {"cloud": 0.0}).sources


def test_only_some_engines_may_be_converted() -> None:
    """Of those that play one role; the others are fixed."""
    fleet = fleet_of([local_engine(name, role) for name, role in (("a", "prefill"), ("b", "prefill"), ("c", "decode"))])
    assert [each.name for each in stock_of(fleet, {}, frozenset("bc")).convertible("prefill")] == ["b"]
    assert [each.name for each in stock_of(fleet, {}).convertible("prefill")] == ["a", "b"]
