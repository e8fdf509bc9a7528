"""Checks side by side: in order, in time, and none takes the others along."""

import asyncio
import json
import subprocess
import sys
import threading
import time

import jsonschema  # type: ignore[import-untyped]  # has no types
import pytest
from rich.console import Console

from prfaas.clock import ManualClock, MonotonicClock
from prfaas.doctor.finding import Checked, Level, finding, merged
from prfaas.doctor.kinds import KINDS
from prfaas.doctor.report import SCHEMA, document, is_fine, one_line, show
from prfaas.doctor.run import Check, Outcome, off_loop, run_checks

FINDINGS = {
    level: finding(
        next(code for code, kind in KINDS.items() if kind.level == level), "sites.edge", "is wrong", "mend it"
    )
    for level in Level
}


async def fine() -> Checked:
    return Checked(seen=("all of it",))


async def test_outcomes_come_in_order_with_their_times() -> None:
    """Whichever ends first."""
    clock = ManualClock()

    async def slow() -> Checked:
        await asyncio.sleep(0.05)  # the other one ends meanwhile
        clock.advance(3.0)
        return Checked((FINDINGS[Level.NOTE], FINDINGS[Level.PROBLEM]))

    first, second = await run_checks([Check("slow", 60, slow), Check("fast", 60, fine)], clock)
    assert (first.name, first.took_s) == ("slow", 3.0)
    assert [each.level for each in first.findings] == [Level.PROBLEM, Level.NOTE]
    assert (second.name, second.checked.seen) == ("fast", ("all of it",))


async def test_a_check_that_hangs_is_a_finding() -> None:
    """In a coroutine that will not be cancelled, or in a thread that blocks: the others are told all the same."""
    release = threading.Event()

    def blocks() -> Checked:
        release.wait(60)
        return Checked()

    async def stubborn() -> Checked:
        while not release.is_set():
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                continue
        return Checked()

    checks = [Check("disk", 0.1, off_loop(blocks)), Check("names", 0.1, stubborn), Check("ports", 60, fine)]
    async with asyncio.timeout(30):
        disk, names, ports = await run_checks(checks, MonotonicClock())
    release.set()
    assert [each.code for each in (*disk.findings, *names.findings)] == ["doctor.late"] * 2
    assert ports.findings == []
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


async def test_a_bug_in_a_check_is_a_finding() -> None:
    """The error is told; the others go on."""

    async def broken() -> Checked:
        raise KeyError("layer.7")

    bad, good = await run_checks([Check("engines", 60, broken), Check("ports", 60, fine)], MonotonicClock())
    [one] = bad.findings
    assert one.code == "doctor.failed"
    assert "KeyError" in one.what
    assert good.checked.seen


def test_a_hanging_thread_does_not_keep_the_process() -> None:
    """A look-up of a name may block for minutes: the command ends when it has told what it knows."""
    code = """
import asyncio, time
from prfaas.clock import MonotonicClock
from prfaas.doctor.run import Check, off_loop, run_checks
[late] = asyncio.run(run_checks([Check("names", 0.1, off_loop(time.sleep, 3600))], MonotonicClock()))
print(late.findings[0].code)
"""
    began_s = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=True)
    assert done.stdout.split() == ["doctor.late"]
    assert time.monotonic() - began_s < 200


def outcomes(*levels: Level) -> list[Outcome]:
    found = Checked(tuple(FINDINGS[level] for level in levels), ("seen [bold]it[/bold]",), {"rtt_ms": 1.5})
    return [Outcome("engines", found, 0.25)]


@pytest.mark.parametrize(
    ("levels", "fine", "strictly_fine"),
    [
        ((), True, True),
        ((Level.NOTE,), True, True),
        ((Level.NOTE, Level.WARNING), True, False),
        ((Level.PROBLEM,), False, False),
    ],
)
def test_what_is_fine(levels: tuple[Level, ...], fine: bool, strictly_fine: bool) -> None:
    """Problems are not; warnings are not, where asked strictly."""
    assert is_fine(outcomes(*levels)) is fine
    assert is_fine(outcomes(*levels), is_strict=True) is strictly_fine


@pytest.mark.parametrize("levels", [(), (Level.NOTE,), tuple(Level)])
def test_the_document_fits_its_schema(levels: tuple[Level, ...]) -> None:
    """Whatever is found; and the schema refuses what is not in it."""
    told = document("edge", outcomes(*levels))
    jsonschema.validate(json.loads(json.dumps(told)), SCHEMA)
    assert told["counts"] == {level: int(level in levels) for level in Level}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**told, "more": 1}, SCHEMA)


def test_people_read_what_why_and_what_to_type() -> None:
    """Nothing is cut off or taken for markup, however narrow the terminal."""
    console = Console(width=20, record=True, soft_wrap=True, file=open("/dev/null", "w"))  # noqa: SIM115
    show(console, "edge", outcomes(*Level))
    text = console.export_text()
    console.file.close()
    one = FINDINGS[Level.PROBLEM]
    for part in (
        one.where,
        one.what,
        one.why,
        one.way_out,
        one.code,
        "seen [bold]it[/bold]",
        "1 problem, 1 warning, 1 note",
    ):
        assert part in text
    assert one_line(one) == "sites.edge: is wrong: mend it"


def test_parts_of_a_check_are_joined() -> None:
    """Findings, lines and figures, in order."""
    parts = [Checked((FINDINGS[Level.NOTE],), ("a",), {"x": 1}), Checked((FINDINGS[Level.PROBLEM],), ("b",), {"y": 2})]
    both = merged(parts)
    assert both == Checked((FINDINGS[Level.NOTE], FINDINGS[Level.PROBLEM]), ("a", "b"), {"x": 1, "y": 2})
