"""How many tokens a request can have at most, told from its bytes.

    tokens <= bytes of the request's body * growth + allowance

- A token stands for at least one byte of the normalised text, an added token for one of the text as it came.
- The text is in the body, where JSON makes it longer, never shorter.
- ``growth``: what normalising may make of the text. Unicode's forms leave ASCII alone; of one other byte canonical
  forms make at most three, compatibility forms (SentencePiece's among them) eleven.
- ``allowance``: what a chat template adds. A template is a program and could add anything, so it is learnt from a few
  conversations: by how much their tokens exceed the bytes of their bodies, and some more. Tools are not bounded.

Whoever uses the bound must be right also where a template exceeds it: a prompt that it takes for short stays local.
"""

import json
from collections.abc import Iterable
from typing import Any

from prfaas.gateway.api_request import ApiRequest

CANONICAL_GROWTH, COMPATIBLE_GROWTH = 3, 11
"""See Unicode's frequently asked questions on normalisation: the worst case of each form in UTF-8."""
SPARE_TOKENS = 64
"""For what a template adds beyond the conversations that were looked at: a date, a switch, a role."""
_HARMLESS = {"Lowercase", "Replace", "Prepend", "Strip", "StripAccents"}
"""Normalisers that do not lengthen a text, or by no more than a byte for each added token."""


class LengthBound:
    """The bound for one tokenizer and its template."""

    def __init__(self, growth: int, excesses: Iterable[int]) -> None:
        """``excesses`` says for some conversations by how much their tokens exceed the bytes of their bodies."""
        self._growth = growth
        self._allowance = max([0, *excesses]) + SPARE_TOKENS

    def max_tokens(self, request: ApiRequest) -> int | None:
        """The most tokens that the request's prompt can have, None when that cannot be told."""
        if request.size_bytes is None or request.body.get("tools"):
            return None
        return request.size_bytes * (1 if request.is_ascii else self._growth) + self._allowance


def growth_of(tokenizer: Any) -> int:
    """How many times longer normalising may make a text that is not ASCII."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    normalizer = getattr(backend, "normalizer", None)
    if backend is None or (normalizer is not None and not hasattr(normalizer, "__getstate__")):
        return COMPATIBLE_GROWTH
    kinds = set(_kinds(json.loads(normalizer.__getstate__()))) - _HARMLESS if normalizer is not None else set()
    if not kinds:
        return 1
    return CANONICAL_GROWTH if kinds <= {"NFC", "NFD"} else COMPATIBLE_GROWTH


def _kinds(normalizer: dict[str, Any]) -> Iterable[str]:
    """The kinds of a normaliser and of all in it."""
    if normalizer["type"] == "Sequence":
        for each in normalizer["normalizers"]:
            yield from _kinds(each)
    else:
        yield normalizer["type"]
