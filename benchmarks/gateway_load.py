"""Clients of a gateway that cost little themselves: many streams on raw connections, each answer checked."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from benchmarks.gateway_stub import CHUNKS

ANSWER_TIMEOUT_S = 120
"""No gateway takes this long for one answer; a lost one must not stop the benchmark."""
MARKER = b'"content"'
"""Is in every event that carries a word."""


@dataclass(frozen=True)
class Sample:
    """What some requests did.

    Attributes:
        first_s: seconds from a request's last byte to the first chunk of its answer, of each, ascending.
        wall_s: seconds for all of them.
    """

    first_s: list[float]
    wall_s: float

    def quantile_s(self, share: float) -> float:
        """The latency of the first chunk that this share of the requests does not exceed."""
        return self.first_s[min(len(self.first_s) - 1, int(share * len(self.first_s)))]


class Client(asyncio.Protocol):
    """One connection, kept for many requests one after the other."""

    def __init__(self) -> None:
        self._done: asyncio.Future[float] | None = None

    async def ask(self, request: bytes) -> float:
        """Send a request and read its answer to the end; returns the seconds to the first chunk."""
        self._done = asyncio.get_running_loop().create_future()
        self._tail, self._events, self._first_s = b"", 0, 0.0
        self._started_s = time.perf_counter()
        self._transport.write(request)
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            return await self._done

    @property
    def is_closed(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        if self._done is None or self._done.done():
            return
        text = self._tail + data
        if not self._first_s and MARKER in text:
            self._first_s = time.perf_counter() - self._started_s
        self._events += text.count(MARKER)
        self._tail = text[1 - len(MARKER) :]  # too short for a marker, so that none is counted twice
        if text.endswith(b"0\r\n\r\n"):
            self._finish()

    def connection_lost(self, error: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(ConnectionError(f"closed after {self._events} events"))

    def _finish(self) -> None:
        assert self._done is not None
        if self._events < CHUNKS:
            self._done.set_exception(ConnectionError(f"{self._events} events of {CHUNKS}"))
        else:
            self._done.set_result(self._first_s)


async def connect(port: int) -> Client:
    """A connection to a gateway on this machine."""
    _, client = await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", port)
    return client


async def closed_loop(port: int, requests: Sequence[bytes], streams: int) -> Sample:
    """All requests, ``streams`` at once: the next one as soon as one has ended."""
    left = list(reversed(requests))
    first_s: list[float] = []
    clients = [await connect(port) for _ in range(min(streams, len(left)))]

    async def work(client: Client) -> None:
        while left:
            first_s.append(await client.ask(left.pop()))

    started_s = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(work(client))
    wall_s = time.perf_counter() - started_s
    for client in clients:
        client.close()
    return Sample(sorted(first_s), wall_s)


async def open_loop(port: int, requests: Sequence[bytes], rate: float, seed: int) -> Sample:
    """All requests at random moments, ``rate`` of them a second, however long each takes."""
    moments = random.Random(seed)
    idle = [await connect(port) for _ in range(64)]
    first_s: list[float] = []

    async def one(request: bytes) -> None:
        while idle and idle[-1].is_closed:  # a server's patience with idle connections is short
            idle.pop()
        client = idle.pop() if idle else await connect(port)
        first_s.append(await client.ask(request))
        idle.append(client)

    started_s = time.perf_counter()
    due_s = started_s
    async with asyncio.TaskGroup() as group:
        for request in requests:
            due_s += moments.expovariate(rate)
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            group.create_task(one(request))
    for client in idle:
        client.close()
    return Sample(sorted(first_s), time.perf_counter() - started_s)
