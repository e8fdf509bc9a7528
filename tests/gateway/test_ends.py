"""How requests end that do not end by themselves: by the deadline, by a client that leaves or stalls, at shutdown."""

import asyncio
from typing import Any

import pytest
from starlette.types import Message

from prfaas.gateway.api_request import ApiRequest
from prfaas.gateway.prompt.token_ids import TokenIds
from prfaas.gateway.prompt.tokens import PromptTokens
from prfaas.gateway.record import Job
from prfaas.gateway.relay import Relay
from prfaas.routing.placement import Placement
from tests.gateway.fakes import Stand, eventually, stand
from tests.gateway.stub_engine import EVENTS, hold, stall_after_first

PLACED = Placement("edge-0", None, ("short",))


async def stalled_answer(running: Stand, *, is_stream: bool) -> list[Message]:
    """What is sent to a client that reads everything but the end of its answer."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body" and not message["body"]:
            await asyncio.Event().wait()
        sent.append(message)

    async def receive() -> Any:
        await asyncio.Event().wait()

    request = ApiRequest("chat", {"model": "tiny", "messages": [], "stream": is_stream})
    job = Job("req-1", request, PromptTokens(TokenIds.of([1])), PLACED, None, running.services.clock.now_s())
    await asyncio.wait_for(Relay(running.services, job)({"type": "http"}, receive, send), 200)
    return sent


async def test_client_that_does_not_read_the_end_is_let_go() -> None:
    """The deadline holds up to the last byte of a stream."""
    async with stand(request_timeout_s=2) as running:
        sent = await stalled_answer(running, is_stream=True)
        assert b'"code":"timeout"' in sent[-1]["body"]
        assert (await running.ended()).outcome == "error"
        assert running.services.fleet.status("edge-0").inflight == 0


async def test_answer_of_known_length_gets_no_error_event() -> None:
    """What has been announced by its length is cut short, never continued with something else."""
    async with stand(request_timeout_s=2) as running:
        sent = await stalled_answer(running, is_stream=False)
        assert [message.get("body", b"")[:10] for message in sent] == [b"", b'{"choices"']
        assert (await running.ended()).outcome == "error"


async def test_deadline_holds_while_tokenising() -> None:
    """A prompt that waits for its tokens too long is answered 504, and its work is dropped."""
    async with stand(request_timeout_s=2) as running:
        running.tokenizer.is_stuck = True
        async with await running.chat(2) as answer:
            assert answer.status == 504
            assert (await answer.json())["error"]["code"] == "timeout"
        assert running.tokenizer.cancelled == 1


async def test_deadline_counts_from_the_arrival(running: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time that went by before the placement is not given again to the engines."""
    running.edge.script = hold(asyncio.Event())
    now_s = running.services.clock.now_s
    moments = iter([now_s() - 60])
    value = running.services.metrics.registry.get_sample_value

    def moment_s() -> float:
        """Long ago for the first who asks once the request is there; probes ask, too, at any time."""
        return (next(moments, None) if value("prfaas_inflight_requests") else None) or now_s()

    monkeypatch.setattr(running.services.clock, "now_s", moment_s)
    async with await asyncio.wait_for(running.chat(2), 30) as answer:
        assert answer.status == 504


async def test_prompt_of_a_client_that_left_is_not_tokenised(running: Stand) -> None:
    """A client that goes away while its prompt waits for its tokens takes its place in the queue with it."""
    running.tokenizer.is_stuck = True
    asking = asyncio.create_task(running.chat(2))
    value = running.services.metrics.registry.get_sample_value
    await eventually(lambda: value("prfaas_inflight_requests") == 1)
    asking.cancel()
    await eventually(lambda: value("prfaas_inflight_requests") == 0)
    assert running.tokenizer.cancelled == 1
    assert running.edge.calls == []


async def test_stop_answers_requests_without_output(running: Stand) -> None:
    """A request that has shown nothing when the grace ends is a 503 in OpenAI's shape, recorded as an error."""
    running.edge.script = hold(asyncio.Event())
    asking = asyncio.create_task(running.chat(2))
    call = await running.edge.call(0)
    running.server.should_exit = True
    async with await asking as answer:
        assert answer.status == 503
        assert (await answer.json())["error"]["code"] == "stopping"
    await call.is_aborted.wait()
    assert (await running.ended()).outcome == "error"


async def test_stop_ends_streams_with_an_error_event(running: Stand) -> None:
    """A stream that is cut at shutdown says so in its last event, and does not count as a success."""
    running.edge.script = stall_after_first
    async with await running.chat(2, stream=True) as answer:
        assert await answer.content.readany() == EVENTS[0]
        running.server.should_exit = True
        assert b'"code":"stopping"' in await answer.read()
    ended = await running.ended()
    assert (ended.outcome, ended.detail) == ("error", "the gateway stops")


async def test_stop_answers_requests_that_are_not_placed_yet(running: Stand) -> None:
    """A request whose prompt still waits for its tokens is a 503 as well."""
    running.tokenizer.is_stuck = True
    asking = asyncio.create_task(running.chat(2))
    value = running.services.metrics.registry.get_sample_value
    await eventually(lambda: value("prfaas_inflight_requests") == 1)
    running.server.should_exit = True
    async with await asking as answer:
        assert answer.status == 503
        assert (await answer.json())["error"]["code"] == "stopping"
