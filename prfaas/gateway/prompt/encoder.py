"""From a text to its ids: what was tokenised before is looked up, and only the rest goes through the tokenizer."""

from typing import Any

from prfaas.gateway.prompt.fast_encoding import FastEncoding
from prfaas.gateway.prompt.segment_memo import SegmentMemo
from prfaas.gateway.prompt.segments import Segmenter
from prfaas.gateway.prompt.token_ids import TokenIds

MAX_CHECKED = 256
"""Some vocabularies have thousands of added tokens, all alike; each costs a fraction of a millisecond at the start."""


class Encoder:
    """A Hugging Face tokenizer's ``tokenizer(text)["input_ids"]``, the same ids for less. For one thread.

    A tokenizer that is not a fast one, has Python code of its own around the fast one, or fails a check at the start is
    called as a whole for every text.
    """

    def __init__(self, tokenizer: Any, memo: SegmentMemo | None = None) -> None:
        self._tokenizer = tokenizer
        self._memo = memo or SegmentMemo()
        self._segmenter = Segmenter([])
        self._frame: tuple[TokenIds, TokenIds] | None = None
        if _is_plain(tokenizer):
            self._frame = _frame_of(tokenizer)
            self._segmenter = Segmenter(tokenizer.backend_tokenizer.get_added_tokens_decoder().values())
            self._encoding = FastEncoding(tokenizer.backend_tokenizer)
        if self._frame is not None and not self._is_exact():
            self._frame = None

    @property
    def is_incremental(self) -> bool:
        """Whether beginnings of texts are remembered."""
        return self._frame is not None

    def ids_of(self, text: str, add_special_tokens: bool, salt: str | None) -> TokenIds:
        """The ids of a text; with ``add_special_tokens`` those that the tokenizer puts around every text are among
        them. Texts with another ``salt`` share nothing."""
        if self._frame is None:
            return TokenIds.of(self._whole(text, add_special_tokens))
        segments = self._segmenter.segments(text)
        parts = [
            self._remembered(key, each) for key, each in zip(self._memo.keys(segments, salt), segments, strict=True)
        ]
        head, tail = self._frame
        return TokenIds.joined([head, *parts, tail] if add_special_tokens else parts)

    def _remembered(self, key: bytes, segment: str) -> TokenIds:
        ids = self._memo.get(key)
        if ids is None:
            ids = self._encoding.ids_of(segment)
            self._memo.put(key, ids)
        return ids

    def _whole(self, text: str, add_special_tokens: bool) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"]
        return ids

    def _is_exact(self) -> bool:
        """Do parts make the ids of the whole? They must (see ``segments``); a change of the library shows here."""
        assert self._frame is not None
        head, tail = self._frame
        for token in ("", *self._segmenter.boundaries[:MAX_CHECKED]):
            text = f"Grüße,  and {token}user\n\n 你好 {token}  an end{token}{token} {token}\n word. {token}"
            parts = [self._encoding.ids_of(each) for each in self._segmenter.segments(text, min_chars=1)]
            for framed, is_special in ((parts, False), ([head, *parts, tail], True)):
                if TokenIds.joined(framed) != TokenIds.of(self._whole(text, is_special)):
                    return False
        return True


def _is_plain(tokenizer: Any) -> bool:
    """Is calling it nothing but calling the fast tokenizer behind it?"""
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        return False
    kind = type(tokenizer)
    is_own = kind._encode_plus is not PreTrainedTokenizerFast._encode_plus
    is_own |= kind.__call__ is not PreTrainedTokenizerBase.__call__
    tokenizer("")  # leaves truncation, padding and the treatment of special tokens as they are in every later call
    return not is_own and not tokenizer.backend_tokenizer.encode_special_tokens


def _frame_of(tokenizer: Any) -> tuple[TokenIds, TokenIds] | None:
    """What the tokenizer puts before and after every text; None when that cannot be told."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    framed = tokenizer("a", add_special_tokens=True)["input_ids"]
    at = [start for start in range(len(framed) - len(bare) + 1) if framed[start : start + len(bare)] == bare]
    if not bare or len(at) != 1:
        return None
    return TokenIds.of(framed[: at[0]]), TokenIds.of(framed[at[0] + len(bare) :])
