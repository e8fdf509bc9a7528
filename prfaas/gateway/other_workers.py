"""How a worker asks the other workers of its gateway.

Each listens on a Unix socket in the folder that they share, which is the gateway's user's alone. A question is a line,
its answer all that follows to the end of the connection. Once a process has ended nobody listens there any more, and
its requests have ended with it: such a socket is passed over. A worker that listens and does not answer may have
requests all the same, so it is counted as silent.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from prfaas.gateway.background import begin

TIMEOUT_S = 2.0
"""Longer than a worker's loop stands still; the operator who asks waits for it."""
MAX_QUESTION_BYTES = 65536
"""A cursor of 64 workers is a few kilobytes. Answers are bounded by what a worker keeps."""
SUFFIX = ".worker"
STAY_S = 3_600.0
"""Between two new dates of a socket. Whoever cleans up takes what is days old, and does not see that it is in use."""

log = logging.getLogger(__name__)
Told = TypeVar("Told")
Answer = Callable[[str], Awaitable[bytes]]
"""From what the question is about to all that there is to say."""


@dataclass(frozen=True, slots=True)
class Heard(Generic[Told]):
    """What the others said.

    Attributes:
        told: of each that answered, in no order.
        silent: how many did not answer in time.
    """

    told: tuple[Told, ...] = ()
    silent: int = 0


class OtherWorkers:
    """Asks the others and answers them. Belongs to one event loop."""

    def __init__(self, folder: Path | None) -> None:
        """``folder`` is None where there is one process: then there is nobody to ask."""
        self._folder = folder
        self._answers: dict[str, Answer] = {}

    def answer(self, subject: str, answer: Answer) -> None:
        """This is what this worker says to questions of the subject."""
        self._answers[subject] = answer

    @asynccontextmanager
    async def answering(self) -> AsyncIterator[None]:
        """Answer the others for the duration of the block."""
        if self._folder is None:
            yield
            return
        path = self._folder / name_of(os.getpid())
        with _near(self._folder) as near:
            server = await asyncio.start_unix_server(self._reply, near / path.name, limit=MAX_QUESTION_BYTES)
        staying = begin(_stay(path), "keeping this worker's socket")
        try:
            yield
        finally:
            staying.cancel()
            await asyncio.gather(staying, return_exceptions=True)
            server.close()
            path.unlink(missing_ok=True)

    async def ask(self, subject: str, about: str, decode: Callable[[bytes], Told]) -> Heard[Told]:
        """Ask all of them at once. ``decode`` raises MsgspecError for what is no answer."""
        if self._folder is None:
            return Heard()
        question, own = msgspec.json.encode((subject, about)) + b"\n", name_of(os.getpid())
        try:
            with _near(self._folder) as near:
                names = [name for name in os.listdir(near) if name.endswith(SUFFIX) and name != own]
                heard = await asyncio.gather(*(_asked(near / name, question, decode) for name in names))
        except OSError as error:  # no descriptor is left, or somebody has cleaned up: nobody knows whom it would meet
            log.warning("the other workers cannot be asked: %s", error.strerror)
            return Heard(silent=1)
        return Heard(tuple(told for each in heard for told in each.told), sum(each.silent for each in heard))

    async def _reply(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                subject, about = msgspec.json.decode(await reader.readline(), type=tuple[str, str])
                writer.write(await self._answers[subject](about))
                await writer.drain()
        except OSError:
            pass  # whoever asked has given up
        except Exception:  # a bug of ours: to whoever asked this worker is silent
            log.exception("another worker could not be answered")
        finally:
            writer.close()


def name_of(pid: int) -> str:
    """The socket of the worker with this process id, in the shared folder."""
    return f"{pid}{SUFFIX}"


def forget(folder: str, pid: int) -> None:
    """That worker has ended, perhaps without a word."""
    Path(folder, name_of(pid)).unlink(missing_ok=True)


async def _stay(path: Path) -> None:
    """Keep the file from those who clean up. Without it the others would not know of this worker."""
    while True:
        await asyncio.sleep(STAY_S)  # nobody tells of a clean-up ahead
        try:
            os.utime(path)
        except OSError as error:
            log.error("the other workers cannot ask this one any more, restart the gateway: %s", error.strerror)


@contextmanager
def _near(folder: Path) -> Iterator[Path]:
    """A short way to the folder: an address has room for 107 bytes, whatever the folder is called. Raises OSError."""
    descriptor = os.open(folder, os.O_DIRECTORY)
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


async def _asked(path: Path, question: bytes, decode: Callable[[bytes], Told]) -> Heard[Told]:
    """What one says."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                writer.write(question)
                return Heard((decode(await reader.read()),))
            finally:
                writer.close()
    except (FileNotFoundError, ConnectionRefusedError):
        return Heard()  # it has ended
    except (OSError, msgspec.MsgspecError):
        return Heard(silent=1)
