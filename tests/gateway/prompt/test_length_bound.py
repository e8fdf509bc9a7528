from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import normalizers

from prfaas.config import ModelConfig
from prfaas.gateway.api_request import ApiRequest, Endpoint, parse_request
from prfaas.gateway.prompt.encoder import Encoder
from prfaas.gateway.prompt.hf_tokenizer import HfPromptTokenizer, load_tokenizer
from prfaas.gateway.prompt.length_bound import SPARE_TOKENS, LengthBound, growth_of
from tests.gateway.prompt.kinds import KINDS, byte_level_bpe, wrapped
from tests.gateway.prompt.samples import RENDERED, TEMPLATES, save_tokenizer

TOKENIZERS = {name: wrapped(build()) for name, build in KINDS.items()}
ENCODERS = {name: Encoder(tokenizer) for name, tokenizer in TOKENIZERS.items()}
MODEL = ModelConfig(name="tiny", path="/nowhere", max_model_len=100_000)


def request_of(endpoint: Endpoint, body: dict[str, Any]) -> ApiRequest:
    fields = {"model": "tiny", **body}
    return parse_request(endpoint, fields, MODEL, msgspec.json.encode(fields))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(
    text=st.text(max_size=200)
    | st.sampled_from(["\u0958", "\ufb2c", "\ufdfa", "\U0001d160", "é"]).map(lambda c: c * 50)
)
def test_no_text_has_more_tokens_than_its_bound(kind: str, text: str) -> None:
    """The bound holds for every kind of tokenizer, characters that normalising lengthens included."""
    tokenizer = TOKENIZERS[kind]
    bound = LengthBound(growth_of(tokenizer), []).max_tokens(request_of("completions", {"prompt": text}))
    assert bound is not None
    assert len(ENCODERS[kind].ids_of(text, True, None)) <= bound


@pytest.mark.parametrize(
    ("normalizer", "growth"),
    [
        (None, 1),
        (normalizers.Prepend("▁"), 1),
        (normalizers.NFC(), 3),
        (normalizers.Sequence([normalizers.Lowercase(), normalizers.NFD()]), 3),
        (normalizers.Sequence([normalizers.NFC(), normalizers.NFKC()]), 11),
        (normalizers.Nmt(), 11),
    ],
    ids=str,
)
def test_growth_is_that_of_the_worst_normaliser(normalizer: Any, growth: int) -> None:
    """Composed forms may triple the bytes, compatibility forms and unknown ones make eleven of one."""
    backend = byte_level_bpe()
    if normalizer is None:
        backend.normalizer = None
    else:
        backend.normalizer = normalizer
    assert growth_of(wrapped(backend)) == growth


@pytest.mark.parametrize(
    ("raw", "is_ascii"),
    [
        (b'{"model":"tiny","prompt":"a"}', True),
        ('{"model":"tiny","prompt":"ä"}'.encode(), False),
        (b'{"model":"tiny","prompt":"\\u00e4"}', False),
    ],
)
def test_escaped_characters_are_no_ascii(raw: bytes, is_ascii: bool) -> None:
    """What normalising may lengthen is seen in either spelling of JSON."""
    request = parse_request("completions", msgspec.json.decode(raw), MODEL, raw)
    assert (request.size_bytes, request.is_ascii) == (len(raw), is_ascii)


def test_unknown_size_and_tools_have_no_bound() -> None:
    """Tools are listed by the template in ways of its own, and a body that was never JSON has no bytes."""
    bound = LengthBound(1, [])
    assert bound.max_tokens(ApiRequest("chat", {"messages": []})) is None
    assert bound.max_tokens(request_of("chat", {"messages": [{}], "tools": [{}]})) is None


@pytest.fixture(params=TEMPLATES)
def tokenizer(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    tokenizer = load_tokenizer(str(save_tokenizer(tmp_path, TEMPLATES[request.param])), 4000)
    yield tokenizer
    tokenizer.close()


async def test_short_prompt_is_not_tokenised(tokenizer: HfPromptTokenizer) -> None:
    """A prompt whose bytes rule out the threshold has a bound and no ids; a threshold lower by one, and it has ids."""
    request = request_of("completions", {"prompt": "word " * 50})
    short = tokenizer.tokens_now(request, above=4000)
    assert short is not None
    assert short.ids is None
    assert short.untouched_reason == ""
    assert short.max_count is not None
    assert tokenizer.tokens_now(request, above=short.max_count) == short
    assert tokenizer.tokens_now(request, above=short.max_count - 1) is None
    tokens = await tokenizer.tokens_of(request)
    assert tokens.max_count is None
    assert 250 <= (tokens.count or 0) <= short.max_count


async def test_bound_holds_for_every_template(tokenizer: HfPromptTokenizer) -> None:
    """No sample request has more tokens than its bound under any of the sample templates."""
    for body in RENDERED:
        request = request_of("chat", body)
        count = (await tokenizer.tokens_of(request)).count
        known = tokenizer.tokens_now(request, above=10**9)
        most = known.max_count if known else None
        assert count is None or most is None or count <= most


def test_allowance_is_learnt() -> None:
    """What a template was seen to add counts for every prompt."""
    request = request_of("completions", {"prompt": "a"})
    plain, chatty = LengthBound(1, [-20]).max_tokens(request), LengthBound(1, [-20, 100]).max_tokens(request)
    assert plain == (request.size_bytes or 0) + SPARE_TOKENS
    assert chatty == plain + 100
