import asyncio
import contextlib

import pytest

from prfaas.clock import ManualClock
from prfaas.fleet.fleet import Fleet
from prfaas.fleet.prober import HealthProber

URLS = {"a": "http://a:1", "b": "http://b:2"}


def test_engine_is_unhealthy_until_heard_of() -> None:
    """Nothing is assumed of an engine that nobody has asked."""
    [status] = Fleet(["edge-0"], ManualClock()).statuses()
    assert (status.is_healthy, status.problem) == (False, "not probed yet")


def test_last_word_counts_and_changes_are_dated() -> None:
    """Health follows the last word; the date moves only when health changes."""
    clock = ManualClock()
    fleet = Fleet(["edge-0"], clock)
    clock.advance(1)
    assert fleet.note("edge-0", "") is True
    clock.advance(1)
    assert fleet.note("edge-0", "") is False
    assert (fleet.status("edge-0").is_healthy, fleet.status("edge-0").since_s) == (True, 1)
    assert fleet.note("edge-0", "refused") is True
    assert (fleet.status("edge-0").problem, fleet.status("edge-0").since_s) == ("refused", 2)


def test_load_is_counted_also_through_errors() -> None:
    """Requests add to the load of their engine and take it away again, whatever happens and whatever is noted."""
    fleet = Fleet(["a", "b"], ManualClock())
    with contextlib.suppress(KeyError), fleet.load("a"), fleet.load("a"):
        fleet.note("a", "")
        assert [status.inflight for status in fleet.statuses()] == [2, 0]
        raise KeyError
    assert [status.inflight for status in fleet.statuses()] == [0, 0]


async def test_prober_asks_every_engine_in_every_round() -> None:
    """All engines are asked side by side, round after round, and the answers noted."""
    fleet, asked, rounds = Fleet(["a", "b"], ManualClock()), [], 0
    both = asyncio.Barrier(2)

    async def probe(name: str) -> str:
        asked.append(name)
        await both.wait()
        return "" if name == "a" else "gone"

    async def sleep(seconds: float) -> None:
        nonlocal rounds
        rounds += 1
        assert seconds == 3
        if rounds == 2:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await HealthProber(fleet, probe, URLS, interval_s=3, sleep=sleep).run()
    assert sorted(asked) == ["a", "a", "b", "b"]
    assert [status.problem for status in fleet.statuses()] == ["", "gone"]


async def test_bug_in_a_probe_ends_neither_the_round_nor_the_prober(caplog: pytest.LogCaptureFixture) -> None:
    """An exception that nobody foresaw makes its engine unhealthy, is logged once, and the others are probed on."""
    fleet = Fleet(["a", "b"], ManualClock())

    async def probe(name: str) -> str:
        if name == "a":
            raise RuntimeError("a bug")
        return ""

    prober = HealthProber(fleet, probe, URLS, interval_s=3)
    for _ in range(3):
        await prober.probe_all()
    assert [status.problem for status in fleet.statuses()] == ["the probe failed (RuntimeError)", ""]
    assert caplog.text.count("RuntimeError: a bug") == 1


async def test_changes_are_logged_with_the_engines_address(caplog: pytest.LogCaptureFixture) -> None:
    """An engine that cannot be reached from the start is logged with its URL, once; so is each change after it."""
    caplog.set_level("INFO", logger="prfaas.fleet")
    fleet = Fleet(["a"], ManualClock())
    answers = ["refused", "refused", "", ""]

    async def probe(_: str) -> str:
        return answers.pop(0)

    prober = HealthProber(fleet, probe, URLS, interval_s=3)
    while answers:
        await prober.probe_all()
    assert [record.getMessage() for record in caplog.records] == [
        "engine a at http://a:1 is unhealthy: refused",
        "engine a at http://a:1 is healthy",
    ]


def test_fleet_follows_a_new_list_of_engines() -> None:
    """New and moved engines have to be heard of first; requests on removed ones end without a trace."""
    clock = ManualClock()
    fleet = Fleet(["a", "b", "c"], clock)
    for name in fleet.names:
        fleet.note(name, "")
    with fleet.load("a"), fleet.load("b"):
        fleet.keep(["b", "c", "d"], changed=["c"])
        assert [(each.name, each.is_healthy) for each in fleet.statuses()] == [("b", True), ("c", False), ("d", False)]
        assert fleet.status("b").inflight == 1
        assert (fleet.status("a").is_draining, fleet.status("a").problem) == (True, "removed")
        assert fleet.note("a", "gone") is False
    assert [each.inflight for each in fleet.statuses()] == [0, 0, 0]


def test_drain_is_dated_and_undone() -> None:
    """An engine drains from the moment when it is told to; told again, the date stays."""
    clock = ManualClock(5)
    fleet = Fleet(["a", "b"], clock)
    fleet.drain(["a", "unknown"])
    clock.advance(1)
    fleet.drain(["a"])
    assert [each.drained_s for each in fleet.statuses()] == [5, None]
    fleet.drain([])
    assert not fleet.status("a").is_draining
