"""The mover's process: how it starts, what it inherits and how it ends."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from prfaas.errors import EngineUnavailable
from prfaas.transport.channel import EngineChannel
from prfaas.transport.messages import MAX_PIECES_PER_MESSAGE, Cancel, OfferSave, Ready, SlotPiece, Staged
from prfaas.transport.process import MoverProcess
from prfaas.types import Part
from tests.transport.movers import CONFIG, PATIENCE_S, TinyEngine


def until(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.01)


def first_message(channel: EngineChannel) -> object:
    heard: list[object] = []

    def is_heard() -> bool:
        heard.extend(channel.poll())
        return bool(heard)

    until(is_heard)
    return heard[0]


def is_alive(pid: int) -> bool:
    """Running, zombies not counted."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_mover_is_ready_listens_and_leaves_nothing_behind() -> None:
    """Worker and scheduler hear Ready with the real port; close ends the process and removes its directory."""
    before = len(os.listdir("/proc/self/fd"))
    mover = MoverProcess.spawn(CONFIG)
    scheduler = EngineChannel.connect(mover.socket_path)
    assert first_message(scheduler) == Ready(mover.listen)
    assert mover.listen.startswith("127.0.0.1:")
    directory = os.path.dirname(mover.socket_path)
    assert os.stat(directory).st_mode & 0o777 == 0o700
    scheduler.close()
    mover.close()
    mover.close()
    assert not is_alive(mover.pid)
    assert not os.path.exists(directory)
    until(lambda: len(os.listdir("/proc/self/fd")) <= before)  # others in this process may be about to close some


def test_the_mover_imports_neither_torch_nor_vllm() -> None:
    """It starts fast and small."""
    check = "import sys, prfaas.transport.mover; sys.exit('torch' in sys.modules or 'vllm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_the_mover_uses_all_processors_though_its_worker_is_bound_to_one() -> None:
    """Bytes must not compete with the model runner for its one processor."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        free = MoverProcess.spawn(CONFIG)
        bound = MoverProcess.spawn(replace(CONFIG, cpus=(min(allowed),)))
    finally:
        os.sched_setaffinity(0, allowed)
    assert os.sched_getaffinity(free.pid) >= allowed
    assert os.sched_getaffinity(bound.pid) == {min(allowed)}
    free.close()
    bound.close()


def test_ctrl_c_does_not_end_the_mover() -> None:
    """The terminal sends SIGINT to the whole group; the engine still needs its mover while it shuts down."""
    mover = MoverProcess.spawn(CONFIG)
    os.kill(mover.pid, signal.SIGINT)
    scheduler = EngineChannel.connect(mover.socket_path)
    assert first_message(scheduler) == Ready(mover.listen)
    assert mover.channel.is_open
    scheduler.close()
    mover.close()


def test_an_address_in_use_is_a_clear_error(capfd: pytest.CaptureFixture[str]) -> None:
    """The engine hears that the mover did not start, and the log says which address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(EngineUnavailable, match="before it was ready"):
            MoverProcess.spawn(replace(CONFIG, listen=address))
    assert f"cannot listen on {address}" in capfd.readouterr().err


def test_kill_9_of_the_worker_ends_the_mover() -> None:
    """An engine that dies without a word leaves no process and no directory behind."""
    worker = """
        import sys, time
        from prfaas.transport.process import MoverProcess
        from tests.transport.movers import CONFIG
        mover = MoverProcess.spawn(CONFIG)
        print(mover.pid, mover.socket_path, flush=True)
        time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(worker)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid, path = process.stdout.readline().split()
        process.kill()
    until(lambda: not is_alive(int(pid)))
    until(lambda: not os.path.exists(os.path.dirname(path)))


def test_the_slots_of_a_large_save_come_home_when_it_ends() -> None:
    """More slots than one message may name are given back in several, and the mover lives on."""
    slots, engine = 50_000, TinyEngine("large", slot_bytes=4096, send_slots=50_000, receive_slots=1)
    try:
        tell = engine.mover.channel.send
        tell(OfferSave("large", "secret", slots, 30.0))
        for at in range(0, slots, MAX_PIECES_PER_MESSAGE):
            run = range(at, min(at + MAX_PIECES_PER_MESSAGE, slots))
            tell(Staged("large", [SlotPiece(0, Part.KV, 0, n, 1, 64, n) for n in run]))
        tell(Cancel("large", "enough"))
        engine.free_send.clear()

        def are_home() -> bool:
            engine.poll()
            return len(engine.free_send) >= slots

        until(are_home)
        assert sorted(engine.free_send) == list(range(slots))
        assert engine.mover.channel.is_open
    finally:
        engine.close()
