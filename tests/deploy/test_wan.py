"""The shaper between the local stack's sites."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.local import wan
from deploy.local.wan import Direction, Link
from tests.ports import free_port


def link(rate_mbit: float = 8, rtt_ms: float = 100) -> Link:
    """8 Mbit/s are a million bytes a second."""
    made = Link(1.0, 0.0)
    made.change({"rate_mbit": rate_mbit, "rtt_ms": rtt_ms, "is_up": True})
    return made


def test_bytes_take_their_time_and_half_the_round_trip() -> None:
    """A million bytes a second: 10,000 take 10 ms, and those that come at the same time wait for them."""
    way = Direction(link())
    assert way.enter(10_000, now_s=100.0) == pytest.approx(100.060)
    assert way.enter(10_000, now_s=100.0) == pytest.approx(100.070)
    assert way.enter(0, now_s=200.0) == pytest.approx(200.050)


def test_a_full_queue_lets_nothing_in() -> None:
    """200,000 bytes are on their way for 200 ms, the queue holds 50 of them."""
    way = Direction(link())
    way.enter(200_000, now_s=1.0)
    assert way.wait_s(1.0) == pytest.approx(0.150)
    assert way.wait_s(1.2) == 0.0


def test_a_change_leaves_the_rest_as_it_is() -> None:
    """Only what is given."""
    made = link()
    made.change({"rtt_ms": 10})
    assert (made.rate_bytes_s, made.delay_s, made.is_up.is_set()) == (1e6, 0.005, True)
    made.change({"is_up": False})
    assert (made.rate_bytes_s, made.delay_s, made.is_up.is_set()) == (1e6, 0.005, False)


@pytest.fixture
async def echo_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """A port of the shaper, behind which a server echoes; the round trip is 40 ms."""
    monkeypatch.setattr(wan, "CONTROL", str(tmp_path / "wan.sock"))
    port = free_port()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()

    server = await asyncio.start_server(echo, "127.0.0.2", port)
    monkeypatch.setattr(wan, "LISTEN", "127.0.0.1")
    serving = asyncio.create_task(wan.serve("127.0.0.2", [port], link(rate_mbit=800, rtt_ms=40)))
    while True:
        with contextlib.suppress(OSError):
            await wan.tell({})
            break
        await asyncio.sleep(0.01)
    yield port
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving
    server.close()


async def test_everything_arrives_not_before_its_time(echo_port: int) -> None:
    """Two megabytes there and back, the last byte and the end of the stream included."""
    sent = bytes(range(256)) * 8_192
    reader, writer = await asyncio.open_connection("127.0.0.1", echo_port)
    started_s = time.monotonic()
    writer.write(sent)
    writer.write_eof()
    assert await reader.read(1) == sent[:1]
    assert time.monotonic() - started_s >= 0.040
    assert sent[:1] + await reader.read(-1) == sent
    writer.close()


async def test_a_cut_holds_what_is_sent_and_closes_nothing(echo_port: int) -> None:
    """It arrives when the link is up again."""
    reader, writer = await asyncio.open_connection("127.0.0.1", echo_port)
    writer.write(b"before")
    assert await reader.read(100) == b"before"
    assert '"is_up": false' in await wan.tell({"is_up": False})
    writer.write(b"meanwhile")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(100), 0.3)
    await wan.tell({"is_up": True})
    assert await reader.read(100) == b"meanwhile"
    writer.close()


async def test_a_site_that_is_away_ends_the_connection(echo_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a refused connection, so that whoever dials tries again."""
    monkeypatch.setattr(asyncio, "open_connection", _refuse_far(asyncio.open_connection))
    reader, writer = await asyncio.open_connection("127.0.0.1", echo_port)
    assert await reader.read(100) == b""
    writer.close()


def _refuse_far(real: object) -> object:
    async def dial(host: str, port: int) -> object:
        if host == "127.0.0.2":
            raise ConnectionRefusedError
        return await real(host, port)  # type: ignore[operator]  # asyncio.open_connection

    return dial
