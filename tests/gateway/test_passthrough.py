"""APIs that only engines serve, and what the official clients make of all of them."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import openai
import pytest
from aiohttp import web

from tests.gateway.fakes import Stand
from tests.gateway.stub_apis import TEXT, answer_as_vllm
from tests.gateway.stub_engine import Call, begin_stream, hold, refuse, stall_after_first

WORDS = TEXT.split()
MESSAGES: Any = [{"role": "user", "content": "hi"}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/responses": {"model": "tiny", "input": "hi"},
    "/v1/messages": {"model": "tiny", "max_tokens": 9, "messages": MESSAGES},
    "/v1/messages/count_tokens": {"model": "tiny", "messages": MESSAGES},
    "/v1/embeddings": {"model": "tiny", "input": "hi"},
    "/detokenize": {"tokens": [1, 2]},
}


@pytest.fixture
async def engine(running: Stand) -> Stand:
    running.edge.script = answer_as_vllm
    return running


@pytest.fixture
async def client(engine: Stand) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{engine.url}/v1", api_key="-", max_retries=0) as client:
        yield client


@pytest.fixture
async def messenger(engine: Stand) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=engine.url, api_key="-", max_retries=0) as client:
        yield client


async def test_openai_client_chats(client: openai.AsyncOpenAI) -> None:
    """Whole and streamed chat, and completions."""
    answer = await client.chat.completions.create(model="tiny", messages=MESSAGES)
    assert answer.choices[0].message.content == TEXT
    stream = await client.chat.completions.create(model="tiny", messages=MESSAGES, stream=True)
    assert [chunk.choices[0].delta.content async for chunk in stream] == WORDS
    completion = await client.completions.create(model="tiny", prompt="hi")
    assert completion.choices[0].text == TEXT


async def test_openai_client_uses_responses(client: openai.AsyncOpenAI) -> None:
    """Whole and streamed."""
    assert (await client.responses.create(model="tiny", input="hi")).output_text == TEXT
    stream = await client.responses.create(model="tiny", input="hi", stream=True)
    assert [event.delta async for event in stream if event.type == "response.output_text.delta"] == WORDS


async def test_openai_client_gets_embeddings_and_models(client: openai.AsyncOpenAI) -> None:
    """The other calls of an ordinary program."""
    embeddings = await client.embeddings.create(model="tiny", input="hi", encoding_format="float")
    assert embeddings.data[0].embedding == [0.5, -0.25]
    assert [model.id async for model in client.models.list()] == ["tiny"]


async def test_anthropic_client_sends_messages(engine: Stand, messenger: anthropic.AsyncAnthropic) -> None:
    """Whole and streamed messages, and counting; the engine's usage is what was used."""
    answer = await messenger.messages.create(model="tiny", max_tokens=9, messages=MESSAGES)
    assert [block.text for block in answer.content if block.type == "text"] == [TEXT]
    async with messenger.messages.stream(model="tiny", max_tokens=9, messages=MESSAGES) as stream:
        assert [text async for text in stream.text_stream] == WORDS
        assert (await stream.get_final_message()).usage.output_tokens == 4
    assert (await messenger.messages.count_tokens(model="tiny", messages=MESSAGES)).input_tokens == 3
    await engine.ended()
    value = engine.services.metrics.registry.get_sample_value
    assert value("prfaas_tenant_tokens_total", {"tenant": ""}) == 14


async def test_anthropic_client_reads_errors(engine: Stand, messenger: anthropic.AsyncAnthropic) -> None:
    """The gateway's refusals and the engine's become the client's own exceptions, in Anthropic's words."""
    with pytest.raises(anthropic.NotFoundError) as unknown:
        await messenger.messages.create(model="none", max_tokens=9, messages=MESSAGES)
    assert unknown.value.body == {
        "type": "error",
        "error": {"type": "not_found_error", "message": "The model 'none' does not exist. There is 'tiny'."},
    }
    own_shape = {"type": "error", "error": {"type": "BadRequestError", "message": "max_tokens must be positive"}}
    for theirs in ({"error": {"message": "max_tokens must be positive", "code": 400}}, own_shape):
        engine.edge.script = refuse(400, theirs)
        with pytest.raises(anthropic.BadRequestError) as refused:
            await messenger.messages.create(model="tiny", max_tokens=9, messages=MESSAGES)
        shown = {"type": "invalid_request_error", "message": "max_tokens must be positive"}
        assert refused.value.body == {"type": "error", "error": shown}


async def test_bodies_reach_the_engine_unchanged(engine: Stand) -> None:
    """Every field, known or not; nothing is added, and the record says why the request stayed here."""
    for path, body in BODIES.items():
        sent = {**body, "made_up": {"deep": [1, None, "ü"]}}
        async with engine.client.post(engine.url + path, json=sent) as answer:
            assert answer.status == 200
            assert answer.headers["x-prfaas-placement"] == "local"
            assert "as it came" in answer.headers["x-prfaas-reason"]
        assert (engine.edge.calls[-1].path, engine.edge.calls[-1].body) == (path, sent)
        assert (await engine.ended()).outcome == "local"
    assert engine.cloud.calls == []


async def test_tokenize_answers(running: Stand) -> None:
    """The tokens of a text, with a model and without."""
    for model in ({}, {"model": "tiny"}):
        async with running.client.post(f"{running.url}/tokenize", json={"prompt": "a bb", **model}) as answer:
            assert await answer.json() == {"tokens": [1, 2]}


@pytest.mark.parametrize(("status", "body"), [(404, {"detail": "Not Found"}), (501, {"error": {"message": "no"}})])
@pytest.mark.parametrize("path", [path for path in BODIES if "messages" not in path])
async def test_api_that_no_engine_serves(running: Stand, path: str, status: int, body: object) -> None:
    """A missing route, or one without a model for it, is a 404 of the API's own shape."""
    running.edge.script = refuse(status, body)
    async with running.client.post(running.url + path, json=BODIES[path]) as answer:
        assert answer.status == 404
        error = (await answer.json())["error"]
        assert (error["code"], error["type"]) == ("unsupported_endpoint", "invalid_request_error")


@pytest.mark.parametrize(("status", "body"), [(404, {"detail": "Not Found"}), (501, {"error": {"message": "no"}})])
@pytest.mark.parametrize("path", [path for path in BODIES if "messages" in path])
async def test_anthropics_api_that_no_engine_serves(running: Stand, path: str, status: int, body: object) -> None:
    """The same in Anthropic's shape."""
    running.edge.script = refuse(status, body)
    async with running.client.post(running.url + path, json=BODIES[path]) as answer:
        assert answer.status == 404
        message = "The engines behind this gateway do not serve this API."
        assert await answer.json() == {"type": "error", "error": {"type": "not_found_error", "message": message}}


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        *((path, {"kv_transfer_params": {}}, "kv_transfer_params") for path in BODIES if "messages" not in path),
        *(
            (path, {"vllm_xargs": {"ec_transfer_params": 1}}, "vllm_xargs.ec_transfer_params")
            for path in ["/detokenize"]
        ),
        ("/v1/responses", {"background": True}, "background"),
        ("/v1/responses", {"previous_response_id": "resp_1"}, "previous_response_id"),
    ],
)
async def test_what_cannot_be_had_is_refused(running: Stand, path: str, fields: dict[str, Any], param: str) -> None:
    """Transfers are the gateway's, and answers that engines would keep belong to no tenant."""
    async with running.client.post(running.url + path, json={**BODIES[path], **fields}) as answer:
        assert answer.status == 400
        error = (await answer.json())["error"]
    assert (error["code"], error["param"]) == ("unsupported_parameter", param)
    assert running.edge.calls == []


async def test_transfers_are_refused_in_anthropics_words(running: Stand) -> None:
    """The same check holds there."""
    body = {**BODIES["/v1/messages"], "kv_transfer_params": {"prfaas": {}}}
    async with running.client.post(f"{running.url}/v1/messages", json=body) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["type"] == "invalid_request_error"
    assert running.edge.calls == []


async def test_client_that_leaves_aborts_the_engine(running: Stand) -> None:
    """A stream of a passed-on API ends at the engine when its client goes."""
    running.edge.script = stall_after_first
    body = {**BODIES["/v1/messages"], "stream": True}
    async with running.client.post(f"{running.url}/v1/messages", json=body) as answer:
        await answer.content.readany()
        answer.close()
    await (await running.edge.call(0)).is_aborted.wait()
    assert (await running.ended()).outcome == "cancelled"


async def test_stream_cut_at_shutdown_ends_in_anthropics_words(running: Stand) -> None:
    """An error event of the gateway has the name and the shape that Anthropic's clients look for."""
    running.edge.script = stall_after_first
    body = {**BODIES["/v1/messages"], "stream": True}
    async with running.client.post(f"{running.url}/v1/messages", json=body) as answer:
        await answer.content.readany()
        running.server.should_exit = True
        name, data = (await answer.read()).decode().strip().split("\n")
    assert name == "event: error"
    assert json.loads(data.removeprefix("data: "))["error"]["type"] == "api_error"


async def test_stop_before_any_output_is_told_in_anthropics_words(running: Stand) -> None:
    """And so is the refusal in place of an answer."""
    running.edge.script = hold(asyncio.Event())
    asking = asyncio.create_task(running.client.post(f"{running.url}/v1/messages", json=BODIES["/v1/messages"]))
    await running.edge.call(0)
    running.server.should_exit = True
    async with await asking as answer:
        assert answer.status == 503
        assert (await answer.json())["error"]["type"] == "overloaded_error"


async def test_engines_error_event_is_an_error(running: Stand) -> None:
    """What the engine says within Anthropic's stream passes, and the record does not count it as a success."""
    events = [b'event: message_start\ndata: {"type":"message_start"}\n\n', b'event: error\ndata: {"type":"error"}\n\n']
    has_read = asyncio.Event()

    async def fail_later(call: Call, request: web.Request) -> web.StreamResponse:
        response = await begin_stream(call, request)
        await response.write(events[0])
        await has_read.wait()
        await response.write(events[1])
        return response

    running.edge.script = fail_later
    body = {**BODIES["/v1/messages"], "stream": True}
    async with running.client.post(f"{running.url}/v1/messages", json=body) as answer:
        assert await answer.content.readany() == events[0]
        has_read.set()
        assert await answer.content.read() == events[1]
    assert (await running.ended()).outcome == "error"


async def test_malformed_messages_are_refused_in_anthropics_words(running: Stand) -> None:
    """Also what is no JSON, and what is no route."""
    for path, status in (("/v1/messages", 400), ("/v1/messages/batches", 404)):
        async with running.client.post(running.url + path, data=b"{") as answer:
            assert answer.status == status
            assert (await answer.json())["type"] == "error"
