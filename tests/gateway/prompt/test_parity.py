from collections.abc import Mapping
from typing import Any

from prfaas.errors import RequestRejected
from prfaas.gateway.api_request import ApiRequest
from prfaas.gateway.prompt.parity import NOT_COMPARED, PROBES, CheckedTokenizer, mismatches
from prfaas.gateway.prompt.token_ids import TokenIds
from prfaas.gateway.prompt.tokens import PromptTokens
from tests.gateway.fakes import WordTokenizer

REQUEST = ApiRequest("completions", {"prompt": "a bb"})


class Strict(WordTokenizer):
    """Takes nothing."""

    async def tokens_of(self, request: ApiRequest) -> PromptTokens:
        raise RequestRejected(400, "too long")


async def no_tokens(body: Mapping[str, Any]) -> None:
    """An engine that refuses every probe."""


async def test_ids_are_used_while_engines_agree_only() -> None:
    """No ids before the first comparison, none while any engine differs, none when the last one is gone."""
    tokenizer = CheckedTokenizer(WordTokenizer(100))
    seen = [(await tokenizer.tokens_of(REQUEST)).untouched_reason]
    for engine, differing in (("a", []), ("b", ["chat"]), ("b", [])):
        tokenizer.note(engine, differing)
        seen.append((await tokenizer.tokens_of(REQUEST)).untouched_reason)
    tokenizer.forget("a")
    assert (await tokenizer.tokens_of(REQUEST)).ids == TokenIds.of([1, 2])
    tokenizer.forget("b")
    seen.append((await tokenizer.tokens_of(REQUEST)).untouched_reason)
    assert seen == [NOT_COMPARED, "", "the engines make other tokens than the gateway (chat)", "", NOT_COMPARED]


async def test_refused_probe_differs() -> None:
    """An engine that refuses what the gateway makes ids of differs in it, and in nothing else."""
    assert set(await mismatches(WordTokenizer(100), no_tokens)) == PROBES.keys() - {"parts"}


async def test_probe_that_the_gateway_refuses_is_skipped() -> None:
    """A model too short for a probe is no difference, and no failure."""
    assert await mismatches(Strict(100), no_tokens) == []
