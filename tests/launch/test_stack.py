import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from prfaas.launch.child import ProcessFailed, last_lines
from prfaas.launch.engine_command import Command
from prfaas.launch.stack import Stack, run_to_end
from tests.launch.stubs import PrintedProgress, await_end, processes_with, stub_command, stub_service
from tests.ports import free_port

MARK = "PRFAAS_TEST_MARK"


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A value in the environment of every process of the test; at its end none of them may be left."""
    value = uuid4().hex
    monkeypatch.setenv(MARK, value)
    yield value
    await_end(processes_with(MARK, value))


def _stack(folder: Path, grace_s: float = 5) -> tuple[Stack, PrintedProgress]:
    progress = PrintedProgress()
    return Stack(folder, progress, stop_grace_s=grace_s), progress


@pytest.mark.usefixtures("mark")
async def test_services_start_together_and_stop_in_reverse(tmp_path: Path) -> None:
    """Engines become ready first, and the gateway, started later, stops first."""
    stack, progress = _stack(tmp_path)
    async with stack:
        await stack.start([stub_service("engine", free_port())])
        await stack.start([stub_service("gateway", free_port())])
    states = [f"{part} {state.partition(' at ')[0]}" for part, state in progress.events]
    assert states == [
        *("engine starting", "engine warming up", "engine ready"),
        *("gateway starting", "gateway warming up", "gateway ready"),
        *("gateway stopping", "gateway stopped", "engine stopping", "engine stopped"),
    ]


@pytest.mark.usefixtures("mark")
async def test_early_death_is_told_with_the_log(tmp_path: Path) -> None:
    """A process that dies while starting ends the start at once, with its exit code and last words."""
    stack, _ = _stack(tmp_path)
    with pytest.raises(ProcessFailed, match=r"(?s)bad ended with exit code 3 .*bad\.log.*no such model"):
        async with stack:
            await stack.start(
                [
                    stub_service("slow", free_port(), "--never-ready"),
                    stub_service("bad", free_port(), "--exit", "3", "--say", "no such model"),
                ]
            )


@pytest.mark.usefixtures("mark")
async def test_late_start_is_told(tmp_path: Path) -> None:
    """A process that never becomes ready is reported after its deadline."""
    stack, _ = _stack(tmp_path)
    with pytest.raises(ProcessFailed, match=r"slow was not ready within 0\.5 s"):
        async with stack:
            await stack.start([stub_service("slow", free_port(), "--never-ready", start_timeout_s=0.5)])


@pytest.mark.usefixtures("mark")
async def test_refused_first_request_is_told(tmp_path: Path) -> None:
    """An engine that is healthy but cannot answer its first request is not ready."""
    stack, _ = _stack(tmp_path)
    with pytest.raises(ProcessFailed, match=r"status 500.*stub refuses"):
        async with stack:
            await stack.start([stub_service("ill", free_port(), "--completion-status", "500")])


@pytest.mark.usefixtures("mark")
async def test_work_ends_when_a_server_dies(tmp_path: Path) -> None:
    """Work under way is cancelled and the dead server named."""
    stack, _ = _stack(tmp_path)
    cancelled = asyncio.Event()

    async def work() -> None:
        stack.children[0].kill()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with stack:
        await stack.start([stub_service("one", free_port()), stub_service("two", free_port())])
        with pytest.raises(ProcessFailed, match="one ended with signal 9"):
            await stack.while_alive(work())
    assert cancelled.is_set()


@pytest.mark.usefixtures("mark")
async def test_work_gives_its_result(tmp_path: Path) -> None:
    """While all servers live, the result of the work is passed on."""
    stack, _ = _stack(tmp_path)
    async with stack:
        await stack.start([stub_service("one", free_port())])
        assert await stack.while_alive(asyncio.sleep(0, "result")) == "result"


async def test_deaf_child_and_its_grandchild_are_killed(tmp_path: Path, mark: str) -> None:
    """A child and a grandchild that both ignore SIGTERM are gone when the grace is over."""
    stack, _ = _stack(tmp_path, grace_s=0.2)
    async with stack:
        await stack.start([stub_service("deaf", free_port(), "--ignore-sigterm", "--grandchild")])
        assert len(processes_with(MARK, mark)) == 3  # leash, child, grandchild


async def test_orphaned_grandchild_is_killed(tmp_path: Path, mark: str) -> None:
    """A grandchild that outlives a child which ended by itself is killed with the group."""
    stack, _ = _stack(tmp_path)
    async with stack:
        with pytest.raises(ProcessFailed, match="exit code 0"):
            await stack.start([stub_service("gone", free_port(), "--grandchild", "--exit", "0")])
        assert len(processes_with(MARK, mark)) == 1


@pytest.mark.usefixtures("mark")
async def test_run_to_end(tmp_path: Path) -> None:
    """A program that is to end by itself may, and a failure of it is told."""
    progress = PrintedProgress()
    await run_to_end("model", stub_command("--exit", "0"), tmp_path, progress)
    with pytest.raises(ProcessFailed, match="model ended with exit code 4"):
        await run_to_end("model", stub_command("--exit", "4"), tmp_path, progress)


@pytest.mark.usefixtures("mark")
async def test_missing_program_leaves_nothing(tmp_path: Path) -> None:
    """A program that does not exist is reported by name."""
    with pytest.raises(ProcessFailed, match="cannot run no-such-program: No such file"):
        await run_to_end("model", Command(("no-such-program",)), tmp_path, PrintedProgress())


def test_the_first_error_of_a_log_is_shown(tmp_path: Path) -> None:
    """The cause of a failure is told although other processes' alarms follow it."""
    log = tmp_path / "engine.log"
    noise = [f"line {number}" for number in range(50)]
    advice = "(APIServer pid=1) WARNING 11-24 [system_utils.py:255] This can cause errors like `OSError: [Errno 24]`"
    cause, alarm = "ModuleNotFoundError: No module named 'x'", "RuntimeError: see above"
    log.write_text("\n".join([advice, *noise, cause, *noise, alarm]))
    told = last_lines(log).splitlines()
    assert told[1].strip() == cause
    assert told[-1].strip() == alarm
    assert len(told) < 12


@pytest.mark.usefixtures("mark")
async def test_signalled_child_is_told_as_such(tmp_path: Path) -> None:
    """A child that a signal ends is reported with the signal, through its leash."""
    kill_itself = Command((sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"))
    with pytest.raises(ProcessFailed, match="model ended with signal 9"):
        await run_to_end("model", kill_itself, tmp_path, PrintedProgress())


async def test_a_starting_server_is_not_waited_for_long(tmp_path: Path, mark: str) -> None:
    """A deaf server that never became ready is killed long before the grace of a ready one is over."""
    stack, _ = _stack(tmp_path, grace_s=60)
    async with asyncio.timeout(50), stack:
        with pytest.raises(ProcessFailed, match="not ready within"):
            await stack.start(
                [stub_service("deaf", free_port(), "--ignore-sigterm", "--never-ready", start_timeout_s=5)]
            )
        assert len(processes_with(MARK, mark)) == 2
