"""Streams rest only where the process is busy, and never before their first part."""

import asyncio

import pytest
from aiohttp import web

from prfaas.clock import ManualClock
from prfaas.gateway.pace import BUSY_SHARE, IDLE_SHARE, INTERVAL_S, MAX_REST_S, Pace, rest_s
from tests.gateway.fakes import Stand
from tests.gateway.stub_engine import EVENTS, Call, begin_stream

GAP_S = 0.02
"""Between two events of the stub, so that each would be passed on by itself."""
REST_S = 0.00625
"""No other wait lasts as long."""


def test_rest_grows_with_the_load() -> None:
    """None while there is room, the most from a busy process on, and no jump between."""
    shares = [at / 100 for at in range(111)]
    rests = [rest_s(share) for share in shares]
    assert rests == sorted(rests)
    assert {rest for share, rest in zip(shares, rests, strict=True) if share <= IDLE_SHARE} == {0.0}
    assert {rest for share, rest in zip(shares, rests, strict=True) if share >= BUSY_SHARE + 0.001} == {MAX_REST_S}


def test_pace_follows_what_the_thread_takes() -> None:
    """A thread that takes all of its processor makes streams rest within five looks; an idle one ends that."""
    wall, busy = ManualClock(), ManualClock()
    pace = Pace(wall.now_s, busy.now_s)
    for _ in range(5):
        wall.advance(INTERVAL_S)
        busy.advance(INTERVAL_S)
        pace.look()
    assert pace.rest_s == MAX_REST_S
    for _ in range(5):
        wall.advance(INTERVAL_S)
        pace.look()
    assert pace.rest_s == 0


def test_a_look_at_the_same_moment_changes_nothing() -> None:
    clock = ManualClock()
    pace = Pace(clock.now_s, clock.now_s)
    pace.look()
    assert pace.rest_s == 0


async def test_first_part_comes_at_once_and_what_follows_gathers(
    running: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a stream rests its events gather; every byte arrives, in order. Here a rest ends when the engine has said
    everything, however long that takes."""
    has_first, has_all, sleep = asyncio.Event(), asyncio.Event(), asyncio.sleep

    async def some_at_a_time(call: Call, request: web.Request) -> web.StreamResponse:
        response = await begin_stream(call, request)
        await response.write(EVENTS[0])
        await has_first.wait()
        for event in EVENTS[1:]:
            await response.write(event)
            await sleep(GAP_S)  # an engine's step
        has_all.set()
        return response

    async def rest(delay_s: float) -> None:
        await (has_all.wait() if delay_s == REST_S else sleep(delay_s))

    monkeypatch.setattr("prfaas.gateway.relay.asyncio.sleep", rest)
    monkeypatch.setattr(running.services.pace, "look", lambda: None)
    running.services.pace.rest_s = REST_S
    running.edge.script = some_at_a_time
    parts = []
    async with await running.chat(2, stream=True) as answer:
        async for part, _ in answer.content.iter_chunks():
            parts += [part] if part else []
            has_first.set()
    assert parts == [EVENTS[0], b"".join(EVENTS[1:])]
