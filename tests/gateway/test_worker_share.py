"""The load of several workers together, by hand, and what a worker hears of the others."""

import os
import resource
import socket
from pathlib import Path

import msgspec
import pytest

from prfaas.gateway import other_workers
from prfaas.gateway.all_workers import cursor_of
from prfaas.gateway.other_workers import Heard, OtherWorkers, name_of
from prfaas.gateway.status.recent import kept_of
from prfaas.gateway.worker_share import EngineLoad, Share, together
from tests.gateway.fakes import eventually

decode = msgspec.json.Decoder(str).decode


def share(*, running: int = 0, arrivals: float | None = None, **engines: EngineLoad) -> Share:
    """Of one worker."""
    return Share(
        engines=engines,
        links={("cloud", "edge"): running},
        running=running,
        max_running=10,
        waiting={"batch": 1},
        max_waiting={"batch": 5},
        arrival_requests_s=arrivals,
        kept=kept_of([], 256),
    )


def test_loads_add_up() -> None:
    """Requests, tokens, places and arrivals; engines that one of them alone has are the answering worker's."""
    own = share(running=2, arrivals=1.5, a=EngineLoad(2, 1, 500, is_drained=True))
    other = share(running=3, arrivals=0.5, a=EngineLoad(0, 0, 70, is_drained=True), gone=EngineLoad(9))
    both = together(own, [other], 0)
    assert both.engines == {"a": EngineLoad(2, 1, 570, is_drained=True)}
    assert (both.links, both.running, both.max_running) == ({("cloud", "edge"): 5}, 5, 20)
    assert (both.waiting, both.max_waiting) == ({"batch": 2}, {"batch": 10})
    assert (both.arrival_requests_s, both.kept.capacity, both.workers) == (2.0, 512, 2)


def test_an_engine_is_over_when_it_is_to_all() -> None:
    """Not while one of them gives it requests, has one there, or is silent."""
    idle = share(a=EngineLoad(is_drained=True))
    busy, unaware = share(a=EngineLoad(1, is_drained=True)), share(a=EngineLoad())
    assert together(idle, [idle], 0).engines["a"].is_over
    assert not together(idle, [busy], 0).engines["a"].is_over
    assert not together(idle, [unaware], 0).engines["a"].is_over
    assert not together(idle, [idle], 1).engines["a"].is_over


def test_cursors_go_together() -> None:
    """Each worker's is replaced by its newer one; of those that said nothing the old one is kept, if they may come."""
    assert cursor_of(["a-7", "b-2"], "a-5,c-9") == "a-7,b-2,c-9"
    assert cursor_of(["a-7"], "") == "a-7"


async def test_who_listens_is_heard(tmp_path: Path) -> None:
    """However long the folder's name is; a socket that nobody has any more is passed over, a mute one is not."""
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    asked: list[str] = []

    async def answer(about: str) -> bytes:
        asked.append(about)
        return b'"well"'

    here, there = OtherWorkers(folder), OtherWorkers(folder)
    there.answer("health", answer)
    async with there.answering():
        (folder / name_of(os.getpid())).rename(folder / name_of(1))  # as if it were another process than this one
        bound(folder, name_of(2)).close()
        assert await here.ask("health", "edge", decode) == Heard(("well",), 0)
        assert asked == ["edge"]
        assert await here.ask("unknown", "", decode) == Heard((), 1)
    assert await OtherWorkers(None).ask("health", "", decode) == Heard()


async def test_socket_never_gets_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever cleans up goes by dates, and does not see that somebody listens there."""
    monkeypatch.setattr(other_workers, "STAY_S", 0.01)
    async with OtherWorkers(tmp_path).answering():
        path = tmp_path / name_of(os.getpid())
        os.utime(path, (0, 0))
        await eventually(lambda: path.stat().st_mtime > 0)


async def test_who_hangs_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It listens, but nothing comes: within the time that is all there is to say."""
    monkeypatch.setattr(other_workers, "TIMEOUT_S", 0.05)
    with bound(tmp_path, name_of(1)) as mute:
        mute.listen()
        assert await OtherWorkers(tmp_path).ask("health", "", decode) == Heard((), 1)


async def test_without_a_descriptor_nobody_knows_whom_it_would_meet(tmp_path: Path) -> None:
    """A folder that can be opened and not be listed is no folder without others."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 1, limits[1]))
    try:
        assert await OtherWorkers(tmp_path).ask("health", "", decode) == Heard((), 1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def bound(folder: Path, name: str) -> socket.socket:
    """A socket there, of which nobody has said yet that he listens."""
    made, near = socket.socket(socket.AF_UNIX), os.open(folder, os.O_DIRECTORY)
    made.bind(f"/proc/self/fd/{near}/{name}")
    os.close(near)
    return made
