"""A whole program with a stack, ended by signals at every stage of its life."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.launch.stubs import await_end, processes_with

MARK = "PRFAAS_TEST_MARK"
ROOT = Path(__file__).parent.parent.parent


class Program:
    """The stack program, what it prints, and all processes that descend from it."""

    def __init__(self, folder: Path, *options: str, grace_s: float = 30) -> None:
        self.mark = uuid4().hex
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.launch.stack_program", str(folder), str(grace_s), *options],
            cwd=ROOT,
            env={**os.environ, MARK: self.mark},
            stdout=subprocess.PIPE,
            text=True,
        )

    def read_until(self, text: str) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if text in line:
                return
        raise AssertionError(f"the program ended before it printed {text!r}")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def exit_code(self) -> int:
        self.process.communicate(timeout=90)
        return self.process.returncode

    def descendants(self) -> set[int]:
        return processes_with(MARK, self.mark)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Starts programs with stub options, and kills what a failed test leaves of them."""
    programs: list[Program] = []

    def start(*options: str, grace_s: float = 30) -> Program:
        programs.append(Program(tmp_path, *options, grace_s=grace_s))
        return programs[-1]

    yield start
    for program in programs:
        for pid in program.descendants():
            os.kill(pid, signal.SIGKILL)
        program.process.communicate()


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("one: starting", signal.SIGINT),
        ("one: ready", signal.SIGINT),
        ("three: starting", signal.SIGTERM),
        ("all ready", signal.SIGINT),
        ("all ready", signal.SIGTERM),
        ("all ready", signal.SIGHUP),
    ],
)
def test_one_signal_at_any_moment(run: Callable[..., Program], moment: str, number: signal.Signals) -> None:
    """Whenever the signal comes, the program ends with 128 + signal and no process is left."""
    program = run("--grandchild")
    program.read_until(moment)
    program.send(number)
    assert program.exit_code() == 128 + number
    await_end(program.descendants())


def test_second_signal_cuts_the_grace_short(run: Callable[..., Program]) -> None:
    """A second Ctrl-C kills children that ignore SIGTERM long before their grace of 30 s is over."""
    program = run("--ignore-sigterm", "--grandchild")
    program.read_until("all ready")
    program.send(signal.SIGINT)
    program.read_until("one: stopping")
    program.send(signal.SIGINT)
    assert program.exit_code() == 128 + signal.SIGINT
    await_end(program.descendants())


@pytest.mark.parametrize("options", [("--grandchild",), ("--grandchild", "--ignore-sigterm")])
def test_killed_program_takes_its_children_along(run: Callable[..., Program], options: tuple[str, ...]) -> None:
    """Even SIGKILL of the program ends all its descendants, deaf ones after their grace."""
    program = run(*options, grace_s=0.5)
    program.read_until("all ready")
    descendants = program.descendants() - {program.process.pid}
    assert len(descendants) == 8  # three leashes, three stubs, two grandchildren
    program.send(signal.SIGKILL)
    await_end(descendants)
