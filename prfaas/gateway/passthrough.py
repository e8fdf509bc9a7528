"""Requests that a local engine answers as they came: APIs whose prompts the gateway does not make tokens of."""

from collections.abc import Mapping
from typing import Any

from prfaas.config import ModelConfig
from prfaas.errors import RequestRejected
from prfaas.gateway.api_request import ApiRequest, Endpoint, check_model, check_no_transfer_params
from prfaas.gateway.prompt.tokens import PromptTokens

PASSED: frozenset[Endpoint] = frozenset(
    {"responses", "messages", "count_tokens", "embeddings", "tokenize", "detokenize"}
)
WITHOUT_MODEL: frozenset[Endpoint] = frozenset({"tokenize", "detokenize"})
"""vLLM takes these without a model."""
WITHOUT_TOKENS: frozenset[Endpoint] = frozenset({"tokenize", "detokenize", "count_tokens"})
"""They run no model, so they cost none of a tenant's tokens and touch no cache."""
REFUSED: Mapping[str, str] = {
    "background": "an answer that nobody reads would escape the limits",
    "previous_response_id": "engines keep answers for all tenants together, and each keeps only its own",
}
"""Fields of ``/v1/responses`` that cannot be had through the gateway, and why."""
BYTES_PER_TOKEN = 4
"""Of English text; an estimate until the engine tells the number."""
UNTOUCHED = PromptTokens(None, "this API is answered by a local engine as it came")


def parse_passed(endpoint: Endpoint, body: Mapping[str, Any], model: ModelConfig) -> ApiRequest:
    """Check what the gateway must; all else is the engine's to judge. Raises RequestRejected."""
    if body.get("model") is not None or endpoint not in WITHOUT_MODEL:
        check_model(body.get("model"), model)
    check_no_transfer_params(body)
    if endpoint == "responses":
        for field, why in REFUSED.items():
            if body.get(field):
                message = f"'{field}' cannot be used here: {why}."
                raise RequestRejected(400, message, param=field, code="unsupported_parameter")
    return ApiRequest(endpoint, body)


def expected_tokens(request: ApiRequest, prompt: PromptTokens, body_bytes: int) -> int:
    """What a request takes of its tenant's tokens until its usage is known."""
    if request.endpoint in WITHOUT_TOKENS:
        return 0
    return prompt.count if prompt.count is not None else -(-body_bytes // BYTES_PER_TOKEN)
