"""Live views on a terminal: drawn over, ended by a key, and the terminal is as it was."""

import asyncio
import fcntl
import os
import pty
import signal
import struct
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.commands.gateways import config_file
from tests.gateway.fakes import Stand, stand

ENTER, LEAVE, SHOW_CURSOR = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25h"


@dataclass
class Terminal:
    """A command on a terminal of its own."""

    descriptor: int
    process: asyncio.subprocess.Process
    seen: bytearray = field(default_factory=bytearray)

    async def until(self, words: bytes) -> None:
        """Read until they are there; the test's timeout is the bound."""
        while words not in self.seen:
            await self._read()

    async def end(self) -> int:
        """The exit code, with all output read."""
        while self.process.returncode is None:
            await self._read()
            await asyncio.sleep(0)
        return self.process.returncode

    async def _read(self) -> None:
        try:
            self.seen += os.read(self.descriptor, 65536)
        except BlockingIOError:
            await asyncio.sleep(0.01)
        except OSError:  # the other end is closed
            await self.process.wait()


@asynccontextmanager
async def on_terminal(*arguments: object, columns: int = 100, **env: str) -> AsyncIterator[Terminal]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    before = termios.tcgetattr(theirs)
    os.set_blocking(ours, False)
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "prfaas.cli", *map(str, arguments)),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "PYTHONPATH": ".", "TERM": "xterm-256color", **env},
    )
    try:
        yield Terminal(ours, started)
        assert termios.tcgetattr(theirs) == before
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()
        os.close(theirs)
        os.close(ours)


@pytest.mark.parametrize("command", ["status", "top"])
async def test_q_ends_a_live_view(running: Stand, tmp_path: Path, command: str) -> None:
    """It takes the whole screen, gives it back with what it showed last, and ends well."""
    async with on_terminal(command, "--config", config_file(tmp_path, running)) as terminal:
        await terminal.until(b"q ends")
        assert ENTER in terminal.seen
        os.write(terminal.descriptor, b"q")
        assert await terminal.end() == 0
    _, _, after = bytes(terminal.seen).rpartition(LEAVE)
    assert b"edge-0" in after
    assert SHOW_CURSOR in terminal.seen


async def test_ctrl_c_ends_a_live_view_as_well(running: Stand, tmp_path: Path) -> None:
    """That is how such a view ends: no traceback, code 0."""
    async with on_terminal("status", "--config", config_file(tmp_path, running)) as terminal:
        await terminal.until(b"q ends")
        terminal.process.send_signal(signal.SIGINT)
        assert await terminal.end() == 0
    assert b"Traceback" not in terminal.seen


async def test_a_gateway_that_goes_away_is_told_below(tmp_path: Path) -> None:
    """The last words stay on the screen, with the reason why there are no newer ones."""
    async with stand() as running:
        file = config_file(tmp_path, running)
        async with on_terminal("status", "--interval-s", "0.1", "--config", file) as terminal:
            await terminal.until(b"q ends")
            running.server.should_exit = True
            await terminal.until(b"cannot be asked")
            os.write(terminal.descriptor, b"q")
            assert await terminal.end() == 0


async def test_once_draws_over_nothing(running: Stand, tmp_path: Path) -> None:
    """Also on a terminal."""
    async with on_terminal("status", "--once", "--config", config_file(tmp_path, running)) as terminal:
        assert await terminal.end() == 0
    assert ENTER not in terminal.seen
    assert b"edge-0" in terminal.seen


async def test_a_dumb_terminal_is_not_drawn_over(running: Stand, tmp_path: Path) -> None:
    """It gets the text once."""
    async with on_terminal("status", "--config", config_file(tmp_path, running), TERM="dumb") as terminal:
        assert await terminal.end() == 0
    assert ENTER not in terminal.seen
