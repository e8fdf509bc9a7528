"""What the placement needs to know of a request."""

from collections.abc import Iterator, Mapping

from prfaas.gateway.api_request import ApiRequest
from prfaas.gateway.prompt.tokens import PromptTokens
from prfaas.routing.snapshot import RequestFeatures


def features_of(
    request: ApiRequest,
    prompt: PromptTokens,
    *,
    hits: Mapping[str, int] | None = None,
    tenant_sites: frozenset[str] | None = None,
    first_token_slo_s: float | None = None,
    adapter: str | None = None,
) -> RequestFeatures:
    """Length of the prompt, everything that keeps the request from loading a cache of another engine, the tokens that
    each engine has cached, the sites that may see the prompt, when its first token is wanted, and the adapter that its
    engines must have."""
    return RequestFeatures(
        prompt.count,
        tuple(_local_reasons(request, prompt)),
        hits=hits or {},
        max_tokens=prompt.max_count,
        tenant_sites=tenant_sites,
        first_token_slo_s=first_token_slo_s,
        adapter=adapter,
    )


def _local_reasons(request: ApiRequest, prompt: PromptTokens) -> Iterator[str]:
    body = request.body
    if prompt.untouched_reason:
        yield prompt.untouched_reason
    for field in ("n", "best_of"):
        if body.get(field) not in (None, 1):
            yield f"{field} is not 1: a transfer serves one sequence"
    if body.get("use_beam_search"):
        yield "beam search: a transfer serves one sequence"
    if body.get("prompt_logprobs") is not None:
        yield "prompt_logprobs: every prompt position has to be computed here"
