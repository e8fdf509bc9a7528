"""A request of the OpenAI API, checked as far as the gateway relies on it; the rest is the engine's to judge."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from prfaas.config import ModelConfig
from prfaas.errors import RequestRejected

Endpoint = Literal[
    "chat", "completions", "responses", "messages", "count_tokens", "embeddings", "tokenize", "detokenize"
]

TRANSFER_FIELDS = ("kv_transfer_params", "ec_transfer_params")
"""What they hold names transfers: whoever names one can read the cache of another request, and content that is no
object ends vLLM's engine core, with every request in it."""

MAX_NAMED = 20
"""Models in an error message; all of them are at ``/v1/models``."""

PATHS: Mapping[Endpoint, str] = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
    "count_tokens": "/v1/messages/count_tokens",
    "embeddings": "/v1/embeddings",
    "tokenize": "/tokenize",
    "detokenize": "/detokenize",
}


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """One request; ``body`` is what the client sent, unknown fields included, with its tenant's salt; never changed.

    Attributes:
        size_bytes: how long ``body`` was as JSON, None when it did not come as that.
        is_ascii: there is no other character in it, not even an escaped one.
    """

    endpoint: Endpoint
    body: Mapping[str, Any]
    size_bytes: int | None = None
    is_ascii: bool = False

    @property
    def path(self) -> str:
        return PATHS[self.endpoint]

    @property
    def is_stream(self) -> bool:
        return self.body.get("stream") is True

    @property
    def cache_salt(self) -> str | None:
        """What separates this request's cached prefixes from those of other tenants."""
        return self.body.get("cache_salt")


def parse_request(
    endpoint: Endpoint, body: Mapping[str, Any], model: ModelConfig, raw: bytes | None = None
) -> ApiRequest:
    """Check what the gateway needs; ``raw`` is the JSON that ``body`` was decoded from.

    Raises RequestRejected as OpenAI's API answers such a request.
    """
    check_model(body.get("model"), model)
    for field in ("max_tokens", "max_completion_tokens"):
        _check_not_negative(field, body.get(field))
    check_no_transfer_params(body)
    if not isinstance(body.get("cache_salt"), str | None):
        raise RequestRejected(400, "'cache_salt' must be a string.", param="cache_salt", code="invalid_type")
    if endpoint == "chat":
        _check_messages(body.get("messages"))
    elif body.get("prompt") is None and body.get("prompt_embeds") is None:
        raise _missing("prompt")
    if raw is None:
        return ApiRequest(endpoint, body)
    return ApiRequest(endpoint, body, len(raw), raw.isascii() and b"\\u" not in raw)


def check_model(value: object, model: ModelConfig) -> None:
    """The model that is served, or an adapter of it, is asked for. Raises RequestRejected."""
    if value is None:
        raise _missing("model")
    if not isinstance(value, str):
        raise RequestRejected(400, "'model' must be a string.", param="model", code="invalid_type")
    if value != model.name and value not in model.adapters:
        raise no_such_model(value, model)


def check_known(request: ApiRequest, model: ModelConfig) -> None:
    """The model that a checked request names, if it does, is still served. Raises RequestRejected."""
    if (name := request.body.get("model")) is not None:
        check_model(name, model)


def no_such_model(name: str, model: ModelConfig) -> RequestRejected:
    """The answer to a request for another model, with those that there are."""
    shown = name if len(name) <= 100 else f"{name[:100]}..."
    more = len(model.names) - MAX_NAMED
    known = ", ".join(f"'{known}'" for known in model.names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
    message = f"The model '{shown}' does not exist. There is {known}."
    return RequestRejected(404, message, param="model", code="model_not_found")


def _check_not_negative(field: str, value: object) -> None:
    if isinstance(value, int) and value < 0:
        message = f"Invalid '{field}': integer below minimum value. Expected a value >= 0, but got {value} instead."
        raise RequestRejected(400, message, param=field, code="integer_below_min_value")


def check_no_transfer_params(body: Mapping[str, Any]) -> None:
    """Nobody names a transfer but the gateway. Raises RequestRejected.

    vLLM takes these fields from ``vllm_xargs`` as well, where it does not even check their type.
    """
    xargs = body.get("vllm_xargs")
    given = [field for field in TRANSFER_FIELDS if body.get(field) is not None]
    given += [f"vllm_xargs.{field}" for field in TRANSFER_FIELDS if isinstance(xargs, dict) and field in xargs]
    if given:
        message = f"'{given[0]}' is set by the gateway and cannot be given."
        raise RequestRejected(400, message, param=given[0], code="unsupported_parameter")


def _check_messages(value: object) -> None:
    if value is None:
        raise _missing("messages")
    if not isinstance(value, list):
        raise RequestRejected(400, "'messages' must be an array.", param="messages", code="invalid_type")
    if not value:
        message = "Invalid 'messages': empty array. Expected an array with minimum length 1."
        raise RequestRejected(400, message, param="messages", code="empty_array")


def _missing(field: str) -> RequestRejected:
    return RequestRejected(
        400, f"Missing required parameter: '{field}'.", param=field, code="missing_required_parameter"
    )
