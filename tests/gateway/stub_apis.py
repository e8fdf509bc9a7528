"""A script for the stub engine that answers as vLLM does, in the shape of each API."""

import json
from collections.abc import Iterable
from typing import Any

from aiohttp import web

from tests.gateway.stub_engine import Call, begin_stream

TEXT = "four words of answer"
USAGE = {"prompt_tokens": 3, "total_tokens": 7, "completion_tokens": 4}
ANTHROPIC_USAGE = {"input_tokens": 3, "output_tokens": 4}
RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "model": "tiny",
    "output": [
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": TEXT, "annotations": []}],
        }
    ],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "usage": {
        "input_tokens": 3,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 7,
    },
}
MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "tiny",
    "content": [{"type": "text", "text": TEXT}],
    "stop_reason": "end_turn",
    "usage": ANTHROPIC_USAGE,
}
CHOICE = {"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}
WHOLE: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "id": "chat-1",
        "object": "chat.completion",
        "created": 1,
        "model": "tiny",
        "choices": [CHOICE],
        "usage": USAGE,
    },
    "/v1/completions": {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1,
        "model": "tiny",
        "choices": [{"index": 0, "text": TEXT, "finish_reason": "stop", "logprobs": None}],
        "usage": USAGE,
    },
    "/v1/responses": RESPONSE,
    "/v1/messages": MESSAGE,
    "/v1/messages/count_tokens": {"input_tokens": 3},
    "/v1/embeddings": {
        "object": "list",
        "model": "tiny",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -0.25]}],
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    },
    "/detokenize": {"prompt": TEXT},
}


def _chat_events() -> Iterable[tuple[str, dict[str, Any]]]:
    chunk = {"id": "chat-1", "object": "chat.completion.chunk", "created": 1, "model": "tiny"}
    for word in TEXT.split():
        yield "", {**chunk, "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]}


def _completion_events() -> Iterable[tuple[str, dict[str, Any]]]:
    for word in TEXT.split():
        choice = {"index": 0, "text": word, "finish_reason": None, "logprobs": None}
        yield "", {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "tiny", "choices": [choice]}


def _response_events() -> Iterable[tuple[str, dict[str, Any]]]:
    yield "response.created", {"type": "response.created", "sequence_number": 0, "response": {**RESPONSE, "output": []}}
    where = {"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "content_index": 0}
    for number, word in enumerate(TEXT.split(), 1):
        yield "response.output_text.delta", {**where, "sequence_number": number, "delta": word, "logprobs": []}
    yield "response.completed", {"type": "response.completed", "sequence_number": 9, "response": RESPONSE}


def _message_events() -> Iterable[tuple[str, dict[str, Any]]]:
    start = {**MESSAGE, "content": [], "stop_reason": None, "usage": {"input_tokens": 3, "output_tokens": 0}}
    yield "message_start", {"type": "message_start", "message": start}
    block = {"type": "text", "text": ""}
    yield "content_block_start", {"type": "content_block_start", "index": 0, "content_block": block}
    for word in TEXT.split():
        delta = {"type": "text_delta", "text": word}
        yield "content_block_delta", {"type": "content_block_delta", "index": 0, "delta": delta}
    yield "content_block_stop", {"type": "content_block_stop", "index": 0}
    yield "message_delta", {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": ANTHROPIC_USAGE}
    yield "message_stop", {"type": "message_stop"}


STREAMS = {
    "/v1/chat/completions": _chat_events,
    "/v1/completions": _completion_events,
    "/v1/responses": _response_events,
    "/v1/messages": _message_events,
}


async def answer_as_vllm(call: Call, request: web.Request) -> web.StreamResponse:
    """What this API answers, streamed if it was asked for; what it lacks is a 404 in the framework's words."""
    if call.path not in WHOLE:
        return web.json_response({"detail": "Not Found"}, status=404)
    if not call.body.get("stream") or call.path not in STREAMS:
        return web.json_response(WHOLE[call.path])
    response = await begin_stream(call, request)
    for name, value in STREAMS[call.path]():
        head = f"event: {name}\n" if name else ""
        await response.write(f"{head}data: {json.dumps(value)}\n\n".encode())
    if "/completions" in call.path:
        await response.write(b"data: [DONE]\n\n")
    return response
