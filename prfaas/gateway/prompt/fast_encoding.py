"""A text's ids through fastokens where that makes the same ones, else through the tokenizers library.

fastokens reads the same ``tokenizer.json`` and needs a twentieth of the time (vLLM offers it, too). It knows byte-level
BPE and BPE with byte fallback, refuses to load the rest, and has limits for what a regular expression may take.
"""

import itertools
import sys
from typing import Any

import fastokens

from prfaas.gateway.prompt.token_ids import TokenIds

_CHECKED_CHARS = (*range(0x3000), *range(0x3000, 0xD800, 37), *range(0xE000, 0x110000, 997))
"""All letters of scripts that separate words, and a sample of the others."""
_CHECKED_AT_ONCE = 256
"""Characters in one text: all in one would leave a process 60 MB larger for good."""
_CHECKED_TEXTS = (
    "Hello  world's 1234567 tabs\t\tand\r\n\r\n lines \n\n  def f(x):\n\t\treturn x**2  # 'll 'RE\n",
    "e\u0301 \u0958 \ufb2c \ufdfa \U0001d160 👩‍👩‍👧 北京, 你好。 \u200b\u00a0\u2028  \x00\x7f",
)


class FastEncoding:
    """Encodes texts without the tokens that stand around every text. For one thread."""

    def __init__(self, backend: Any) -> None:
        """``backend`` is a ``tokenizers.Tokenizer``, whose ids are the right ones."""
        self._backend = backend
        self._fast = _loaded(backend)
        if self._fast is not None and not self._agrees(self._fast):
            self._fast = None

    @property
    def is_fast(self) -> bool:
        """Whether fastokens is in use."""
        return self._fast is not None

    def ids_of(self, text: str) -> TokenIds:
        """The ids of a text."""
        ids = _fast_ids(self._fast, text) if self._fast is not None else None
        return self._slow_ids(text) if ids is None else ids

    def _slow_ids(self, text: str) -> TokenIds:
        # Of the library's calls the one that releases the interpreter lock and computes no offsets.
        return TokenIds.of(self._backend.encode_batch_fast([text], add_special_tokens=False)[0].ids)

    def _agrees(self, fast: fastokens.Tokenizer) -> bool:
        characters = (
            "".join(f"a{chr(code)} {chr(code)}1\n" for code in _CHECKED_CHARS[first : first + _CHECKED_AT_ONCE])
            for first in range(0, len(_CHECKED_CHARS), _CHECKED_AT_ONCE)
        )
        texts = itertools.chain(characters, _CHECKED_TEXTS)
        return all(_fast_ids(fast, text) == self._slow_ids(text) for text in texts)


def _loaded(backend: Any) -> fastokens.Tokenizer | None:
    """None for a tokenizer that fastokens does not know."""
    if sys.byteorder != "little":  # the order of the ids that it returns
        return None
    try:
        return fastokens.Tokenizer.from_json_str(backend.to_str())
    except BaseException as error:  # a panic in its Rust code is no Exception
        _raise_ours(error)
        return None


def _fast_ids(fast: fastokens.Tokenizer, text: str) -> TokenIds | None:
    """None where a limit of fastokens is in the way."""
    try:
        return TokenIds.from_packed(fast.encode_batch_flat([text])[0])
    except BaseException as error:  # a panic in its Rust code is no Exception
        _raise_ours(error)
        return None


def _raise_ours(error: BaseException) -> None:
    """Let pass what is meant for the whole process."""
    if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
        raise error
