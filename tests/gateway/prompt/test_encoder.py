from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken

from prfaas.gateway.prompt.encoder import Encoder
from prfaas.gateway.prompt.fast_encoding import FastEncoding
from prfaas.gateway.prompt.segment_memo import ENTRY_BYTES, SegmentMemo
from prfaas.gateway.prompt.segments import Segmenter
from prfaas.gateway.prompt.token_ids import TokenIds
from tests.gateway.prompt.kinds import KINDS, SPECIAL, byte_level_bpe, wrapped

TOKENIZERS = {name: wrapped(build()) for name, build in KINDS.items()}
ODD = ["<left>", "<right>", "\n\n\n", "Ünormal", "<|im_", "end|>", "<", "▁"]
BITS = st.sampled_from([*SPECIAL, *ODD, " ", "\n", "  ", "the", "quick", "é", "e\u0301", "北京", "x", "'s", "\u0958"])
TEXTS = st.lists(BITS | st.text(max_size=6), max_size=25).map("".join)


class Eager(Segmenter):
    """Cuts wherever it is possible."""

    def segments(self, text: str, min_chars: int = 1) -> list[str]:
        return super().segments(text, 1)


def encoder_of(tokenizer: Any, memo: SegmentMemo | None = None) -> Encoder:
    """One that takes even the shortest segments apart."""
    encoder = Encoder(tokenizer, memo)
    encoder._segmenter = Eager(tokenizer.backend_tokenizer.get_added_tokens_decoder().values())
    return encoder


ENCODERS = {name: encoder_of(tokenizer) for name, tokenizer in TOKENIZERS.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_cut(kind: str) -> None:
    """Each kind of tokenizer passes the check at the start and is cut at special tokens."""
    encoder = ENCODERS[kind]
    assert encoder.is_incremental
    assert len(encoder._segmenter.segments("a<|im_start|>b<|im_end|><|x|>c")) == 3


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(turns=st.lists(TEXTS, min_size=1, max_size=4), is_special=st.booleans())
def test_growing_text_has_the_ids_of_the_whole(kind: str, turns: list[str], is_special: bool) -> None:
    """However a text has grown, its remembered parts and the new one are the ids that the tokenizer gives at once."""
    text = ""
    for turn in turns:
        text += turn
        expected = TOKENIZERS[kind](text, add_special_tokens=is_special)["input_ids"]
        assert ENCODERS[kind].ids_of(text, is_special, None).to_list() == expected


FAST = {"byte-level BPE", "BPE with byte fallback", "odd tokens"}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100, deadline=None)
@given(text=TEXTS | st.text())
def test_fast_ids_are_those_of_the_library(kind: str, text: str) -> None:
    """Where fastokens is used its ids are the tokenizers library's, and the kinds that it does not know do without."""
    backend = TOKENIZERS[kind].backend_tokenizer
    encoding = ENCODERS[kind]._encoding
    assert encoding.is_fast == (kind in FAST)
    assert encoding.ids_of(text).to_list() == backend.encode(text, add_special_tokens=False).ids


class Failing:
    """Stands for a text that fastokens gives up on."""

    def encode_batch_flat(self, texts: list[str]) -> tuple[bytes, bytes]:
        raise ValueError("match limit exceeded")


class Wrong:
    """Stands for a version of fastokens with a fault."""

    def encode_batch_flat(self, texts: list[str]) -> tuple[bytes, bytes]:
        return bytes(4), b""


def test_text_that_fastokens_gives_up_on_goes_to_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit of fastokens costs time, never an answer."""
    encoding = FastEncoding(TOKENIZERS["byte-level BPE"].backend_tokenizer)
    expected = encoding.ids_of("the quick fox")
    monkeypatch.setattr(encoding, "_fast", Failing())
    assert encoding.ids_of("the quick fox") == expected


def test_fastokens_that_makes_other_ids_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """One difference at the start, and the tokenizers library does it all."""
    monkeypatch.setattr("prfaas.gateway.prompt.fast_encoding._loaded", lambda _: Wrong())
    encoding = FastEncoding(TOKENIZERS["byte-level BPE"].backend_tokenizer)
    assert not encoding.is_fast
    assert len(encoding.ids_of("the quick fox")) > 1


@settings(max_examples=100, deadline=None)
@given(text=TEXTS, more=TEXTS, least=st.integers(1, 20))
def test_cuts_of_a_text_are_those_of_its_continuation(text: str, more: str, least: int) -> None:
    """All segments but the last stay segments when the text goes on, and together they are the text."""
    segmenter = ENCODERS["odd tokens"]._segmenter
    segments = Segmenter.segments(segmenter, text, least)
    assert "".join(segments) == text
    kept = max(0, len(segments) - 2)  # a longer token may begin where the text ended, so the last cut too may move
    assert Segmenter.segments(segmenter, text + more, least)[:kept] == segments[:kept]


@pytest.mark.parametrize(
    "token",
    [
        AddedToken("<x>", lstrip=True, normalized=False),
        AddedToken("<x>", normalized=True),
        AddedToken("<x>", single_word=True, normalized=False),
        AddedToken(" <x>", normalized=False),
    ],
    ids=str,
)
def test_tokens_that_reach_over_the_edge_are_no_boundary(token: AddedToken) -> None:
    """A token that depends on what is before it does not cut a text."""
    assert Segmenter([token]).segments("a <x> b", 1) == ["a <x> b"]


def test_whole_words_forbid_all_cuts() -> None:
    """Where any token counts as a whole word only, nothing is cut: what follows a cut may decide."""
    tokens = [AddedToken("<w>", single_word=True, normalized=False), AddedToken("<x>", normalized=False)]
    assert Segmenter(tokens).segments("a<x>b", 1) == ["a<x>b"]


def test_tokenizer_with_python_of_its_own_is_called_as_a_whole() -> None:
    """What a tokenizer class does beyond the fast tokenizer is never skipped."""

    class Shouting(type(wrapped(byte_level_bpe()))):  # type: ignore[misc]  # transformers' classes are Any here
        def _encode_plus(self, text: str, *args: Any, **fields: Any) -> Any:
            return super()._encode_plus(text.upper(), *args, **fields)

    tokenizer = Shouting(tokenizer_object=byte_level_bpe())
    encoder = Encoder(tokenizer)
    assert not encoder.is_incremental
    assert encoder.ids_of("the fox", False, None).to_list() == tokenizer("the fox")["input_ids"]


def test_split_special_tokens_are_called_as_a_whole() -> None:
    """A tokenizer that takes special tokens apart has no boundaries."""
    tokenizer = wrapped(byte_level_bpe(), split_special_tokens=True)
    encoder = Encoder(tokenizer)
    text = "a<|im_end|>b" * 40
    assert not encoder.is_incremental
    assert encoder.ids_of(text, False, None).to_list() == tokenizer(text)["input_ids"]


class Counting(SegmentMemo):
    """Remembers how often a segment was not known."""

    misses = 0

    def get(self, key: bytes) -> TokenIds | None:
        ids = super().get(key)
        self.misses += ids is None
        return ids


def turn(number: int) -> str:
    return f"<|im_start|>user\n{number} {'the quick fox ' * 30}<|im_end|>\n"


def test_next_turn_tokenises_what_is_new() -> None:
    """Of a conversation that goes on only the new turn is tokenised."""
    memo = Counting()
    encoder = Encoder(TOKENIZERS["byte-level BPE"], memo)
    encoder.ids_of("".join(map(turn, range(20))), False, None)
    first, memo.misses = memo.misses, 0
    encoder.ids_of("".join(map(turn, range(21))), False, None)
    assert first >= 20
    assert 1 <= memo.misses <= 2


@pytest.mark.parametrize(("salt", "start"), [("other", ""), (None, "other")])
def test_other_tenant_or_beginning_shares_nothing(salt: str | None, start: str) -> None:
    """A segment is found only with the same salt and behind the same beginning, so its time tells no more."""
    memo = Counting()
    encoder = Encoder(TOKENIZERS["byte-level BPE"], memo)
    text = "".join(map(turn, range(5)))
    encoder.ids_of(text, False, "tenant" if salt else None)
    known, memo.misses = memo.misses, 0
    encoder.ids_of(start + text, False, salt)
    assert memo.misses == known


def test_salt_is_not_taken_for_text() -> None:
    """A salt and a text do not run into each other."""
    memo = SegmentMemo()
    assert list(memo.keys(["b"], "a")) != list(memo.keys(["ab"], None))
    assert list(memo.keys(["a", "b"], None))[-1] != list(memo.keys(["ab"], None))[-1]
    assert list(memo.keys(["a"], None)) != list(memo.keys(["a"], ""))


def test_memory_is_bounded_and_the_longest_unused_goes() -> None:
    """The memo never holds more than its bound, and keeps what was used last."""
    ids = TokenIds.of(list(range(100)))
    memo = SegmentMemo(limit_bytes=3 * (ids.size_bytes + ENTRY_BYTES))
    for key in (b"1", b"2", b"3"):
        memo.put(key, ids)
    assert memo.get(b"1") == ids
    memo.put(b"4", ids)
    assert memo.get(b"2") is None
    assert memo.get(b"1") == ids
    assert memo.size_bytes == 3 * (ids.size_bytes + ENTRY_BYTES)
    memo.put(b"5", TokenIds.of(list(range(10_000))))
    assert memo.size_bytes == 0


@given(st.lists(st.lists(st.integers(0, 2**32 - 1))))
def test_joined_ids_are_those_of_the_parts(parts: list[list[int]]) -> None:
    """Joining parts, empty ones among them, gives the ids in order, in every form."""
    joined = TokenIds.joined(TokenIds.of(part) for part in parts)
    plain = [token for part in parts for token in part]
    assert joined == TokenIds.of(plain)
    assert joined.to_list() == plain
    assert len(joined) == len(plain)
