"""What ``/openapi.json`` says of the routes: bodies as far as the gateway relies on them, answers, and all errors."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel

from prfaas.gateway.api_request import Endpoint
from prfaas.gateway.passthrough import WITHOUT_MODEL

Json = Mapping[str, Any]


class ErrorDetail(BaseModel):
    """What went wrong, as OpenAI's API tells it."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of every error but those of Anthropic's API."""

    error: ErrorDetail


class AnthropicErrorDetail(BaseModel):
    """What went wrong, as Anthropic's API tells it."""

    type: str
    message: str


class AnthropicErrorBody(BaseModel):
    """The body of every error of Anthropic's API."""

    type: Literal["error"]
    error: AnthropicErrorDetail


ERRORS: Mapping[int, str] = {
    400: "The request is wrong: `param` and `code` say where and how.",
    401: "There is no API key, or nobody knows it.",
    403: "The key may not do this.",
    404: "No such model, or no engine serves this API.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    422: "The engine cannot use the request.",
    429: "A limit of the key, or of all who wait, is reached: `retry-after` says when to try again.",
    431: "The head is too large.",
    500: "The gateway failed.",
    502: "The engine failed.",
    503: "No engine answers, the turn did not come, or the gateway is full or stopping.",
    504: "The request took longer than the gateway lets it.",
}
_TEXT: Json = {"type": "string", "minLength": 1}
_MESSAGES: Json = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["role", "content"],
        "properties": {"role": {"type": "string", "enum": ["user", "assistant"]}, "content": _TEXT},
    },
}
_TOKENS: Json = {"type": "array", "items": {"type": "integer", "minimum": 0}}
_STREAM: Json = {"type": "boolean"}
_LENGTH: Json = {"type": "integer", "minimum": 1}
_EVENT: Json = {
    "description": "One event of the stream.",
    "type": "object",
    "required": ["data"],
    "properties": {"event": _TEXT, "data": _TEXT},
}
_FIELDS: Mapping[Endpoint, dict[str, Json]] = {
    "chat": {"messages": _MESSAGES, "stream": _STREAM, "max_tokens": _LENGTH},
    "completions": {"prompt": _TEXT, "stream": _STREAM, "max_tokens": _LENGTH},
    "responses": {"input": _TEXT, "stream": _STREAM, "max_output_tokens": _LENGTH},
    "messages": {"messages": _MESSAGES, "max_tokens": _LENGTH, "stream": _STREAM},
    "count_tokens": {"messages": _MESSAGES},
    "embeddings": {"input": _TEXT},
    "tokenize": {"prompt": _TEXT},
    "detokenize": {"tokens": _TOKENS},
}
_OPTIONAL = frozenset({"stream", "max_tokens", "max_output_tokens"})
_REQUIRED_BY: Mapping[Endpoint, frozenset[str]] = {"messages": frozenset({"max_tokens"})}
_SUMMARIES: Mapping[Endpoint, str] = {
    "chat": "A chat completion; a long prompt may be prefilled in another site.",
    "completions": "A completion; a long prompt may be prefilled in another site.",
    "responses": "OpenAI's Responses API, by a local engine.",
    "messages": "Anthropic's Messages API, by a local engine.",
    "count_tokens": "How many tokens messages have, in Anthropic's API.",
    "embeddings": "Embeddings, where the model makes them.",
    "tokenize": "The tokens of a text.",
    "detokenize": "The text of tokens.",
}
SECURITY: list[Json] = [{"bearer": []}, {"x-api-key": []}]
SECURITY_SCHEMES: Json = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}


def documented(endpoint: Endpoint, models: Sequence[str], *, needs_key: bool) -> dict[str, Any]:
    """The arguments for the route of this endpoint; ``models`` are those that requests may name at the start."""
    content = {"application/json": {"schema": _body_schema(endpoint, models)}}
    extra: dict[str, Any] = {"requestBody": {"required": True, "content": content}}
    if needs_key:
        extra["security"] = SECURITY
    answers: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if "stream" in _FIELDS[endpoint]:
        answers["text/event-stream"] = {"schema": _EVENT}
    responses: dict[int | str, dict[str, Any]] = {200: {"description": "The engine's answer.", "content": answers}}
    shape = AnthropicErrorBody if endpoint in ("messages", "count_tokens") else ErrorBody
    responses |= {status: {"model": shape, "description": text} for status, text in ERRORS.items()}
    return {"summary": _SUMMARIES[endpoint], "responses": responses, "openapi_extra": extra}


def model_errors(*, needs_key: bool) -> dict[str, Any]:
    """The arguments for the routes that list models."""
    statuses = (401, 404) if needs_key else (404,)
    responses = {status: {"model": ErrorBody, "description": ERRORS[status]} for status in statuses}
    return {"responses": responses, "openapi_extra": {"security": SECURITY} if needs_key else {}}


def _body_schema(endpoint: Endpoint, models: Sequence[str]) -> Json:
    fields = {"model": {"type": "string", "enum": list(models)}, **_FIELDS[endpoint]}
    optional = _OPTIONAL - _REQUIRED_BY.get(endpoint, frozenset())
    optional |= {"model"} if endpoint in WITHOUT_MODEL else frozenset()
    return {"type": "object", "properties": fields, "required": [name for name in fields if name not in optional]}
