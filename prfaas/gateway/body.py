"""Reading a request's body: bounded in bytes and time, then decoded once."""

import asyncio
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from prfaas.errors import RequestRejected

BODY_TIMEOUT_S = 60.0
"""A client that needs longer for a body of some megabytes holds a connection for nothing."""
DISCARD_BYTES = 128 * 1024 * 1024
DISCARD_TIMEOUT_S = 10.0
"""How much of a body that is too large is still read; a client that sends more sees its connection closed."""


async def read_body(
    request: Request, limit_bytes: int, timeout_s: float = BODY_TIMEOUT_S, discard_s: float = DISCARD_TIMEOUT_S
) -> bytes:
    """Read the whole body, never keeping more than ``limit_bytes`` of it.

    What is beyond the limit is read and thrown away for a while, because most clients look for the answer only
    when they have sent everything, and report a broken connection otherwise.

    Raises:
        RequestRejected: 413 when it is larger, 408 when it is slower than ``timeout_s``.
        ClientDisconnect: the client went away first.
    """
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit_bytes + DISCARD_BYTES:
        raise _too_large(limit_bytes)
    parts: list[bytes] = []
    size_bytes = 0
    try:
        async with asyncio.timeout(timeout_s) as deadline:
            is_more = True
            while is_more and size_bytes <= limit_bytes + DISCARD_BYTES:
                part, is_more = await _next_part(request.receive)
                size_bytes += len(part)
                if size_bytes <= limit_bytes:
                    parts.append(part)
                elif parts:
                    parts.clear()
                    deadline.reschedule(asyncio.get_running_loop().time() + discard_s)
    except TimeoutError:
        slow = RequestRejected(408, f"The request body did not arrive within {timeout_s:g} s.", code="timeout")
        raise (_too_large(limit_bytes) if size_bytes > limit_bytes else slow) from None
    if size_bytes > limit_bytes:
        raise _too_large(limit_bytes)
    return b"".join(parts)


async def _next_part(receive: Receive) -> tuple[bytes, bool]:
    """The next part of the body and whether there is more of it. Raises ClientDisconnect."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message.get("body", b""), message.get("more_body", False)


def _too_large(limit_bytes: int) -> RequestRejected:
    return RequestRejected(413, f"The request body exceeds {limit_bytes} bytes.", code="request_too_large")


def decode_object(body: bytes) -> dict[str, Any]:
    """Decode a JSON object. Raises RequestRejected (400) that says what is wrong, without quoting the body."""
    try:
        value = msgspec.json.decode(body)
    except UnicodeDecodeError:
        raise RequestRejected(400, "The request body is not valid UTF-8.", code="invalid_utf8") from None
    except msgspec.MsgspecError as error:
        raise RequestRejected(400, f"Could not parse the JSON body: {error}.", code="invalid_json") from None
    except RecursionError:
        raise RequestRejected(400, "The JSON body is nested too deeply.", code="invalid_json") from None
    if not isinstance(value, dict):
        raise RequestRejected(400, "The request body must be a JSON object.", code="invalid_json")
    return value
