"""Errors in the shape that OpenAI's API gives them; nothing internal goes to the client."""

import msgspec

from prfaas.errors import RequestRejected

NO_ERROR_OBJECT = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError, TypeError, AttributeError)
"""What looking for an error object in an engine's bytes may raise: they may be anything."""


def error_body(error: RequestRejected) -> bytes:
    """``{"error": {...}}`` as OpenAI's API writes it."""
    fields = {"message": error.message, "type": error.kind, "param": error.param, "code": error.code}
    return msgspec.json.encode({"error": fields})


def in_openai_shape(body: bytes) -> bytes:
    """An engine's refusal (4xx) with the type, parameter and code that OpenAI's API gives; as it came when it is no
    error object. vLLM names Python's exception, the path within the body and the HTTP status there."""
    try:
        error = msgspec.json.decode(body)["error"]
        message, param, code = str(error["message"]), error.get("param"), error.get("code")
    except NO_ERROR_OBJECT:
        return body
    if "maximum context length" in message:
        code = "context_length_exceeded"
    param = param.removeprefix("body.") if isinstance(param, str) else None
    fields = {"message": message, "type": "invalid_request_error", "param": param}
    return msgspec.json.encode({"error": {**fields, "code": code if isinstance(code, str) else None}})


def internal_error() -> RequestRejected:
    """The answer to a bug of ours."""
    return RequestRejected(
        500, "The gateway failed to handle this request.", kind="server_error", code="internal_error"
    )


def timed_out() -> RequestRejected:
    """The answer to a request whose deadline has passed."""
    return RequestRejected(504, "The request took too long.", kind="server_error", code="timeout")


def stopping() -> RequestRejected:
    """The answer to a request that has not ended when the gateway must."""
    return RequestRejected(503, "The gateway is stopping; try again.", kind="server_error", code="stopping")
