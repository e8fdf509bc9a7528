"""Errors in the shape of the API that was called: Anthropic's on ``/v1/messages``, OpenAI's everywhere else.

The gateway writes all its errors as OpenAI's API does, and engines write theirs as they like; what is passed on goes
through here.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import Message, Send

from prfaas.errors import RequestRejected
from prfaas.gateway.openai_error import NO_ERROR_OBJECT, error_body

Shape = Callable[[bytes, int], bytes]
"""Makes the body of an error of this status, whatever its shape is, one of the API's shape."""

ANTHROPIC_KINDS: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
"""The ``error.type`` for a status; other 4xx are ``invalid_request_error``, other 5xx ``api_error``."""
NO_ROUTE = ("Not Found", "Method Not Allowed")
"""What a server says that lacks the route; vLLM has different words for a model that it does not know."""
ANTHROPIC_PATH = "/v1/messages"
ERROR_EVENT = b'data: {"error":'
"""How an error of the gateway begins within a stream."""


def openai_shape(body: bytes, status: int) -> bytes:
    """OpenAI's shape: engines keep to it, unless they lack the API."""
    return error_body(_unserved()) if status == 404 and _message(body) in NO_ROUTE else body


def anthropic_shape(body: bytes, status: int) -> bytes:
    """Anthropic's shape, as it came when there is no message in it."""
    if (message := _message(body)) is None:
        return body
    if status == 404 and message in NO_ROUTE:
        message = _unserved().message
    kind = ANTHROPIC_KINDS.get(status, "invalid_request_error" if status < 500 else "api_error")
    return msgspec.json.encode({"type": "error", "error": {"type": kind, "message": message}})


def shape_of(path: str) -> Shape:
    """How the API at this path writes its errors."""
    return anthropic_shape if path.startswith(ANTHROPIC_PATH) else openai_shape


def error_response(error: RequestRejected, path: str, headers: Mapping[str, str] | None = None) -> Response:
    """The whole answer for an error that is found before any output was sent."""
    all_headers = dict(headers or {})
    if error.retry_after_s is not None:
        all_headers["retry-after"] = str(error.retry_after_s)
    if error.status == 401:
        all_headers["www-authenticate"] = "Bearer"
    body = error_body(error)
    if path.startswith(ANTHROPIC_PATH):
        body = anthropic_shape(body, error.status)
    return Response(body, error.status, all_headers, "application/json")


class ShapedSend:
    """Wraps ``send``: gives errors their shape, as whole answers and as events of the gateway within a stream.

    A refusal comes in one part, by engine and gateway alike; its head waits for it, because it tells the length.
    """

    def __init__(self, send: Send, shape: Shape) -> None:
        self._send = send
        self._shape = shape
        self._head: Message | None = None

    async def __call__(self, message: Message) -> None:
        body = message.get("body", b"")
        if message["type"] == "http.response.start" and message["status"] >= 400:
            self._head = message
            return
        if self._head is not None:
            head, self._head = self._head, None
            body = self._shape(body, head["status"]) if body else b""
            await self._send({**head, "headers": _with_length(head["headers"], len(body))})
            message = {**message, "body": body}
        elif body.startswith(ERROR_EVENT):
            message = {**message, "body": self._event(body)}
        await self._send(message)

    def _event(self, event: bytes) -> bytes:
        shaped = self._shape(event.removeprefix(b"data: ").rstrip(), 500)
        return event if shaped.startswith(b'{"error"') else b"event: error\ndata: " + shaped + b"\n\n"


def _with_length(headers: list[tuple[bytes, bytes]], length: int) -> list[tuple[bytes, bytes]]:
    kept = [(name, value) for name, value in headers if name.lower() != b"content-length"]
    return [*kept, (b"content-length", str(length).encode())]


def _message(body: bytes) -> str | None:
    """The words of an error: OpenAI's and Anthropic's ``error.message``, or a framework's ``detail``."""
    try:
        value: Any = msgspec.json.decode(body)
        message = value["error"]["message"] if "error" in value else value["detail"]
    except NO_ERROR_OBJECT:
        return None
    return message if isinstance(message, str) else None


def _unserved() -> RequestRejected:
    return RequestRejected(404, "The engines behind this gateway do not serve this API.", code="unsupported_endpoint")
