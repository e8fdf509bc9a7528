import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest
from starlette.requests import Request

from prfaas.errors import RequestRejected
from prfaas.gateway.body import read_body
from tests.gateway.fakes import Stand

ON_SHARED_LOOP = pytest.mark.asyncio(loop_scope="module")
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


def chat(**fields: object) -> dict[str, object]:
    return {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], **fields}


@ON_SHARED_LOOP
@pytest.mark.parametrize(
    ("path", "body", "status", "code", "param"),
    [
        (CHAT, chat(model="gpt-5"), 404, "model_not_found", "model"),
        (CHAT, chat(model=None), 400, "missing_required_parameter", "model"),
        (CHAT, chat(model=7), 400, "invalid_type", "model"),
        (CHAT, chat(messages=[]), 400, "empty_array", "messages"),
        (CHAT, chat(messages=None), 400, "missing_required_parameter", "messages"),
        (CHAT, chat(messages="hi"), 400, "invalid_type", "messages"),
        (CHAT, chat(max_tokens=-1), 400, "integer_below_min_value", "max_tokens"),
        (CHAT, chat(max_completion_tokens=-5), 400, "integer_below_min_value", "max_completion_tokens"),
        (CHAT, chat(messages=[{"role": "user", "content": "w " * 101}]), 400, "context_length_exceeded", "messages"),
        (CHAT, chat(kv_transfer_params={"prfaas": {}}), 400, "unsupported_parameter", "kv_transfer_params"),
        (CHAT, chat(ec_transfer_params={}), 400, "unsupported_parameter", "ec_transfer_params"),
        *(
            (
                path,
                {**chat(vllm_xargs={field: value}), "prompt": "x"},
                400,
                "unsupported_parameter",
                f"vllm_xargs.{field}",
            )
            for path in (CHAT, COMPLETIONS)
            for field, value in (("kv_transfer_params", "text"), ("ec_transfer_params", None))
        ),
        (CHAT, [1], 400, "invalid_json", None),
        (COMPLETIONS, {"model": "tiny"}, 400, "missing_required_parameter", "prompt"),
        (COMPLETIONS, {"model": "tiny", "prompt": "x", "max_tokens": -1}, 400, "integer_below_min_value", "max_tokens"),
    ],
)
async def test_wrong_request_is_refused(
    shared: Stand, path: str, body: object, status: int, code: str, param: str | None
) -> None:
    """Each mistake gets the status, code and parameter of OpenAI's API, and reaches no engine."""
    async with shared.client.post(shared.url + path, json=body) as answer:
        assert answer.status == status
        error = _error(await answer.read())
    assert (error["code"], error["param"], error["type"]) == (code, param, "invalid_request_error")
    assert shared.edge.calls == shared.cloud.calls == []


@ON_SHARED_LOOP
@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"model": "tiny", ', "invalid_json"),
        (b"", "invalid_json"),
        (b"not json", "invalid_json"),
        (b'{"model": NaN}', "invalid_json"),
        (b'{"model": "ti\xffny"}', "invalid_utf8"),
        (b'{"model": "\\ud800"}', "invalid_json"),
        (b'{"a":' * 12000, "invalid_json"),
        (b'{"a": 1e999}', "invalid_json"),
    ],
    ids=lambda value: str(value)[:24],
)
async def test_malformed_body_is_refused(shared: Stand, body: bytes, code: str) -> None:
    """Bytes that are no JSON object give a 400 that does not quote them."""
    async with shared.client.post(shared.url + CHAT, data=body) as answer:
        assert answer.status == 400
        assert _error(await answer.read())["code"] == code


@ON_SHARED_LOOP
async def test_huge_body_is_refused(shared: Stand) -> None:
    """A body of 50 MB is a 413 also for the official client, which sends all of it before it reads."""
    async with openai.AsyncOpenAI(base_url=f"{shared.url}/v1", api_key="-", max_retries=0) as client:
        with pytest.raises(openai.APIStatusError) as refusal:
            await client.completions.create(model="tiny", prompt="x" * 50 * 1024 * 1024)
    assert (refusal.value.status_code, refusal.value.code) == (413, "request_too_large")


@ON_SHARED_LOOP
async def test_huge_chunked_body_is_refused(shared: Stand) -> None:
    """A body without an announced length is counted, and the connection ends with the refusal."""
    host, port = shared.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
    for _ in range(5):
        writer.write(b"4000\r\n" + bytes(0x4000) + b"\r\n")
    writer.write(b"0\r\n\r\n")
    answer = await reader.read()
    assert b" 413 " in answer.splitlines()[0]
    assert b"request_too_large" in answer
    writer.close()


@pytest.mark.parametrize(("sent_bytes", "status"), [(50, 408), (200, 413)])
async def test_stalled_body_is_refused(sent_bytes: int, status: int) -> None:
    """A body that stops coming is answered in time: as too slow, or as too large if it was that already."""
    messages = [{"type": "http.request", "body": bytes(sent_bytes), "more_body": True}]

    async def receive() -> dict[str, Any]:
        return messages.pop() if messages else await asyncio.Future()

    with pytest.raises(RequestRejected) as refusal:
        await read_body(_bare_request(receive), limit_bytes=100, timeout_s=0.05, discard_s=0.05)
    assert refusal.value.status == status


async def test_endless_body_is_cut_off() -> None:
    """Of a body without end a bounded part is read and none of it is kept."""
    received = 0

    async def receive() -> dict[str, Any]:
        nonlocal received
        received += 2**24
        return {"type": "http.request", "body": bytes(2**24), "more_body": True}

    with pytest.raises(RequestRejected) as refusal:
        await read_body(_bare_request(receive), limit_bytes=100)
    assert refusal.value.status == 413
    assert received <= 2**28


def _bare_request(receive: Callable[[], Awaitable[dict[str, Any]]]) -> Request:
    return Request({"type": "http", "headers": []}, receive)


@ON_SHARED_LOOP
@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "unknown_url"),
        ("POST", "/", 404, "unknown_url"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/v1/models/gpt-5", 404, "model_not_found"),
    ],
)
async def test_unknown_routes(shared: Stand, method: str, path: str, status: int, code: str) -> None:
    """Unknown paths and methods have OpenAI's error shape as well."""
    async with shared.client.request(method, shared.url + path) as answer:
        assert answer.status == status
        assert _error(await answer.read())["code"] == code


async def test_bug_shows_nothing(running: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody foresaw is a 500 in OpenAI's shape, without its text."""

    def fail(*_: object) -> None:
        raise RuntimeError("internal detail")

    monkeypatch.setattr("prfaas.gateway.pipeline.features_of", fail)
    async with running.client.post(running.url + CHAT, json=chat()) as answer:
        assert answer.status == 500
        text = await answer.text()
    assert json.loads(text)["error"]["code"] == "internal_error"
    assert "internal detail" not in text


async def test_bug_while_answering_shows_nothing(running: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same holds for a bug in the relay itself."""

    def fail(*_: object) -> None:
        raise RuntimeError("internal detail")

    monkeypatch.setattr("prfaas.gateway.attempt.decode_body", fail)
    async with running.client.post(running.url + CHAT, json=chat()) as answer:
        assert answer.status == 500
        assert "internal detail" not in await answer.text()
    assert (await running.ended()).outcome == "error"


def _error(body: bytes) -> dict[str, Any]:
    """The error of an OpenAI-shaped body, which has exactly four fields."""
    error: dict[str, Any] = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert "Traceback" not in error["message"]
    return error
