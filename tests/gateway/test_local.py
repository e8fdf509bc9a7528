import asyncio

import aiohttp
import pytest
from aiohttp import web

from tests.gateway.fakes import Stand, stand
from tests.gateway.stub_engine import (
    EVENTS,
    FAILURE,
    fail_in_the_stream,
    pause_after_first,
    refuse,
    stall_after_first,
)


async def test_short_prompt_stays_local(running: Stand) -> None:
    """A prompt within the threshold goes to the local engine alone, and the headers say why."""
    async with await running.chat(5) as answer:
        assert answer.status == 200
        assert await answer.json() == {"choices": [{"text": "tok0tok1tok2"}]}
        assert answer.headers["x-prfaas-placement"] == "local"
        assert answer.headers["x-prfaas-site"] == "edge"
        assert answer.headers["x-prfaas-engine"] == "edge-0"
        assert answer.headers["x-prfaas-prompt-tokens"] == "5"
        assert answer.headers["x-prfaas-reason"] == "5 prompt tokens are within the threshold of 5"
        assert "x-prfaas-transfer-id" not in answer.headers
    assert running.cloud.calls == []


async def test_prompt_known_to_be_short_is_untouched(running: Stand) -> None:
    """A prompt that was not counted because it cannot exceed the threshold goes as it came, and the reason says so."""
    async with await running.chat(5, short=True) as answer:
        assert answer.headers["x-prfaas-reason"] == "at most 5 prompt tokens are within the threshold of 5"
        assert "x-prfaas-prompt-tokens" not in answer.headers
    assert (await running.edge.call(0)).params == {}


async def test_stream_is_passed_on_byte_for_byte(running: Stand) -> None:
    """The client gets exactly the bytes of the engine's events."""
    async with await running.chat(2, stream=True) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert await answer.read() == b"".join(EVENTS)


async def test_chat_body_is_unchanged_but_for_the_ids(running: Stand) -> None:
    """Every field of the client, known or not, reaches the engine; the token ids come beside it."""
    fields = {"temperature": 0.30000000000000004, "seed": 2**63, "tools": None, "made_up": {"deep": [1, None, "ü"]}}
    await running.chat(3, **fields)
    body = (await running.edge.call(0)).body
    assert body.pop("kv_transfer_params") == {"prompt_token_ids": [4, 4, 4]}
    messages = [{"role": "user", "content": "word word word"}]
    assert body == {"model": "tiny", "messages": messages, **fields}


async def test_completion_prompt_becomes_ids(running: Stand) -> None:
    """A completion's prompt is replaced by its token ids, so that it is tokenised once."""
    body = {"model": "tiny", "prompt": "a bb ccc", "max_tokens": 3}
    await running.client.post(f"{running.url}/v1/completions", json=body)
    call = await running.edge.call(0)
    assert call.path == "/v1/completions"
    assert call.body == {"model": "tiny", "prompt": [1, 2, 3], "max_tokens": 3}


async def test_untokenisable_request_is_untouched(running: Stand) -> None:
    """A request that only the engine can tokenise goes there as it came, whatever its length."""
    async with await running.chat(50, untouched=True) as answer:
        assert answer.headers["x-prfaas-reason"].startswith("the request says so")
        assert "x-prfaas-prompt-tokens" not in answer.headers
    assert (await running.edge.call(0)).params == {}
    assert running.cloud.calls == []


@pytest.mark.parametrize(
    "fields", [{"n": 2}, {"best_of": 3}, {"use_beam_search": True}, {"prompt_logprobs": 0}], ids=str
)
async def test_requests_that_cannot_load_a_cache_stay_local(running: Stand, fields: dict[str, object]) -> None:
    """Several sequences or prompt logprobs keep a long prompt local, and the reason names the field."""
    async with await running.chat(50, **fields) as answer:
        assert answer.headers["x-prfaas-placement"] == "local"
        assert next(iter(fields)).replace("use_beam_search", "beam search") in answer.headers["x-prfaas-reason"]
    assert running.cloud.calls == []


@pytest.mark.parametrize(
    ("theirs", "shown"),
    [
        (
            {"message": "bad tool", "type": "BadRequestError", "param": "body.tools", "code": 422},
            {"message": "bad tool", "type": "invalid_request_error", "param": "tools", "code": None},
        ),
        (
            {"message": "This model's maximum context length is 9 tokens.", "type": "X", "code": 400},
            {
                "message": "This model's maximum context length is 9 tokens.",
                "type": "invalid_request_error",
                "param": None,
                "code": "context_length_exceeded",
            },
        ),
    ],
)
async def test_engine_refusal_reaches_the_client_in_openais_shape(
    running: Stand, theirs: dict[str, object], shown: dict[str, object]
) -> None:
    """Status and message are the engine's; type, parameter and code are those that OpenAI's clients look at."""
    running.edge.script = refuse(422, {"error": theirs})
    async with await running.chat(2) as answer:
        assert answer.status == 422
        assert (await answer.json())["error"] == shown
        assert answer.headers["x-prfaas-engine"] == "edge-0"


async def test_refusal_of_another_shape_passes_through(running: Stand) -> None:
    """What is no error object is not touched."""
    running.edge.script = refuse(404, {"detail": "Not Found"})
    async with await running.chat(2) as answer:
        assert (answer.status, await answer.json()) == (404, {"detail": "Not Found"})


@pytest.mark.parametrize("body", [b"", b'{"error": {"message": "\xff"}}', b'{"error":' + b'{"a":' * 10_000], ids=len)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_refusal_in_odd_words_passes_through(path: str, body: bytes) -> None:
    """A refusal is one whatever its body is, also without any: the client gets it, and the engine stays well."""

    async def refuse_oddly(*_: object) -> web.Response:
        return web.Response(status=400, body=body, content_type="application/json")

    async with stand(probe_interval_s=600) as running:
        running.edge.script = refuse_oddly
        request = {"model": "tiny", "messages": [{"role": "user", "content": "a"}], "max_tokens": 1}
        async with running.client.post(running.url + path, json=request) as answer:
            assert (answer.status, await answer.read()) == (400, body)
        assert running.services.fleet.status("edge-0").is_healthy
        assert len(running.edge.calls) == 1


async def test_failure_as_first_event_is_told_as_a_failure(running: Stand) -> None:
    """An engine that fails after it has begun to stream, but before any output, is a 502 like any other."""
    running.edge.script = fail_in_the_stream
    async with await running.chat(2, stream=True) as answer:
        assert answer.status == 502
        assert (await answer.json())["error"]["code"] == "engine_error"


async def test_failure_in_a_stream_is_recorded_as_an_error(running: Stand) -> None:
    """The client sees what the engine said; the record does not count it as a success."""
    has_read = asyncio.Event()
    running.edge.script = pause_after_first(has_read, [FAILURE])
    async with await running.chat(2, stream=True) as answer:
        assert answer.status == 200
        assert await answer.content.readany() == EVENTS[0]
        has_read.set()
        assert await answer.content.read() == FAILURE
    assert (await running.ended()).outcome == "error"


@pytest.mark.parametrize(("status", "shown"), [(500, 502), (503, 503)])
async def test_engine_failure_is_told_without_its_words(running: Stand, status: int, shown: int) -> None:
    """A failure inside the engine becomes OpenAI's shape; nothing of the engine's own text leaks."""
    running.edge.script = refuse(status, {"detail": "Traceback: secret"})
    async with await running.chat(2, stream=True) as answer:
        assert answer.status == shown
        assert (await answer.json())["error"]["code"] == "engine_error"


async def test_answer_that_is_too_large_is_one_requests_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """An absurdly long answer is a 502 for its client; the engine stays well for the others."""
    monkeypatch.setattr("prfaas.gateway.upstream.MAX_ANSWER_BYTES", 100)
    async with stand(probe_interval_s=600) as running:
        running.edge.script = refuse(200, {"text": "x" * 200})
        async with await running.chat(2) as answer:
            assert answer.status == 502
            assert (await answer.json())["error"]["code"] == "engine_error"
        assert running.services.fleet.status("edge-0").is_healthy


async def test_client_that_leaves_aborts_the_engine(running: Stand) -> None:
    """When the client closes its connection in mid-stream, the engine sees its request closed."""
    running.edge.script = stall_after_first
    async with await running.chat(2, stream=True) as answer:
        assert await answer.content.readany() == EVENTS[0]
        answer.close()
    await (await running.edge.call(0)).is_aborted.wait()
    assert (await running.ended()).outcome == "cancelled"


async def test_client_that_leaves_before_any_output_aborts_the_engine(running: Stand) -> None:
    """The engine's request is closed also while its first output is still awaited."""
    never = asyncio.Event()

    async def wait(*_: object) -> aiohttp.web.StreamResponse:
        await never.wait()
        raise AssertionError

    running.edge.script = wait
    asking = asyncio.create_task(running.chat(2))
    call = await running.edge.call(0)
    asking.cancel()
    await call.is_aborted.wait()
    assert (await running.ended()).outcome == "cancelled"


async def test_inflight_is_counted_for_the_whole_answer(running: Stand) -> None:
    """An engine is loaded until the answer ends, not only until it begins."""
    running.edge.script = stall_after_first
    async with await running.chat(2, stream=True) as answer:
        await answer.content.readany()
        assert running.services.fleet.status("edge-0").inflight == 1
        answer.close()
    await running.ended()
    assert running.services.fleet.status("edge-0").inflight == 0
