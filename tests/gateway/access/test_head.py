"""What a client may send before the application sees it, over raw sockets."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest

from tests.gateway.access.test_access import guarded
from tests.gateway.fakes import Stand

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def connected(running: Stand) -> AsyncIterator[Streams]:
    host, port = running.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()


async def answer_to(running: Stand, sent: bytes) -> tuple[int, str]:
    """Status and error code of what is answered until the gateway hangs up."""
    async with connected(running) as (reader, writer):
        writer.write(sent)
        answer = await reader.read()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]["code"]


async def test_endless_head_is_cut_off(running: Stand) -> None:
    """A head without end, in one header or in many, is a 431 in OpenAI's shape before it fills the memory."""
    start = b"GET /v1/models HTTP/1.1\r\nhost: x\r\n"
    assert await answer_to(running, start + b"x-long: " + b"a" * 100_000) == (431, "headers_too_large")
    assert await answer_to(running, start + b"x-long: " + b"a" * 66_000 + b"\r\n\r\n") == (431, "headers_too_large")
    many = b"".join(b"x-%d: 1\r\n" % number for number in range(201))
    assert await answer_to(running, start + many + b"\r\n") == (431, "headers_too_large")
    assert await answer_to(running, b"GET /" + b"a" * 100_000) == (431, "headers_too_large")


async def test_large_head_is_fine(running: Stand) -> None:
    """What proxies and tracers add stays far below the bounds."""
    headers = {f"x-{number}": "a" * 300 for number in range(100)}
    async with running.client.get(f"{running.url}/health", headers=headers) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"not http at all\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: x\r\nx-request-id: a\rset-cookie: b\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: x\r\nbad name: a\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: x\r\nx: a\x00b\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcdef",
        b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
    ],
    ids=["words", "bare CR", "name", "NUL", "two framings", "two lengths", "negative"],
)
async def test_malformed_request_is_refused(running: Stand, sent: bytes) -> None:
    """Injected headers and ambiguous bodies never reach the application; the answer is JSON like all others."""
    assert await answer_to(running, sent) == (400, "invalid_http")
    assert running.edge.calls == []


async def test_slow_head_is_given_up(running: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that does not come to its end in time is a 408; a connection that says nothing is closed."""
    monkeypatch.setattr("prfaas.gateway.access.head.HEAD_TIMEOUT_S", 1.0)
    assert await answer_to(running, b"GET /health HTTP/1.1\r\nhost:") == (408, "timeout")
    async with connected(running) as (reader, _):
        assert await asyncio.wait_for(reader.read(), 20) == b""


async def test_next_request_of_a_connection_has_its_own_time(running: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle connection stays open; only a head that has begun must come to its end."""
    request = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
    async with connected(running) as (reader, writer):
        for _ in range(3):
            writer.write(request)
            assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
            await reader.readuntil(b"}")
        monkeypatch.setattr("prfaas.gateway.access.head.HEAD_TIMEOUT_S", 0.05)
        writer.write(request[:20])
        assert b" 408 " in await reader.read()


async def test_stranger_with_a_large_body_gets_the_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal that comes before the body is read arrives, though the client goes on sending, and costs no memory."""
    monkeypatch.setattr("prfaas.gateway.access.head.UNREAD_BODY_TIMEOUT_S", 60.0)
    async with guarded() as running, connected(running) as (reader, writer):
        writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 50000000\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 401 " in head
        for _ in range(200):
            writer.write(bytes(250_000))
            await writer.drain()
        writer.write(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        await reader.readuntil(b"}}")
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")


async def test_unread_body_may_not_drip_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is refused and then sends a body without end is cut off."""
    monkeypatch.setattr("prfaas.gateway.access.head.UNREAD_BODY_TIMEOUT_S", 0.1)
    async with guarded() as running, connected(running) as (reader, writer):
        writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 50000000\r\n\r\n")
        await reader.readuntil(b"}}")

        async def drip() -> None:
            while True:
                writer.write(b"x")
                await asyncio.sleep(0.01)

        dripping = asyncio.create_task(drip())
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        dripping.cancel()


async def test_connections_are_bounded(running: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound a new connection is closed at once; those that are there go on."""
    async with running.client.get(f"{running.url}/health") as answer:
        assert answer.status == 200
    monkeypatch.setattr("prfaas.gateway.access.head.MAX_CONNECTIONS", 1)
    async with connected(running) as (reader, _):
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 20) == b""
    async with running.client.get(f"{running.url}/health") as answer:
        assert answer.status == 200
