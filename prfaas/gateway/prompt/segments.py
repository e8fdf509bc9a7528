"""Where a text can be cut so that its parts tokenise by themselves as they do within it.

A fast tokenizer first finds its added tokens (``<|im_end|>`` and the like), the leftmost first and the longest of those
that begin there. What lies between two of them is normalised, split and encoded without a look at anything else. So a
text may be cut where such a token begins:

- Before the cut: the tokens found there are the same, since none of them reaches over the cut.
- After it: the part begins with that token, so what follows is not at the start of a text, just as it was not before.
  (A tokenizer that puts a space before the first word of a text puts none there.)

Not every added token will do. One that takes the whitespace before it (``lstrip``) or begins with some reaches over the
cut, one that is sought in normalised text (``normalized``) is no boundary for the others, and where one counts only as
a whole word (``single_word``) what is beyond the cut decides.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Protocol

MIN_SEGMENT_CHARS = 256
"""Shorter parts are left together: looking up each costs as much as encoding it."""


class AddedToken(Protocol):
    """The part of ``tokenizers.AddedToken`` that matters."""

    @property
    def content(self) -> str: ...
    @property
    def lstrip(self) -> bool: ...
    @property
    def normalized(self) -> bool: ...
    @property
    def single_word(self) -> bool: ...


class Segmenter:
    """Cuts texts. The cuts of a text are those of any longer text that it begins, but perhaps the last of them."""

    def __init__(self, added: Iterable[AddedToken]) -> None:
        tokens = [token for token in added if not token.normalized]
        is_cuttable = not any(token.single_word for token in tokens)
        self._cuts = {token.content for token in tokens if is_cuttable and _is_boundary(token)}
        # Of several that begin at one place the longest comes first, as the tokenizer takes them.
        longest_first = sorted((token.content for token in tokens), key=len, reverse=True)
        self._added = re.compile("|".join(map(re.escape, longest_first)))

    @property
    def boundaries(self) -> list[str]:
        """The tokens before which texts are cut."""
        return sorted(self._cuts)

    def segments(self, text: str, min_chars: int = MIN_SEGMENT_CHARS) -> list[str]:
        """The text in parts of at least ``min_chars``, the last one excepted; all of them together are the text."""
        edges = [0, *self._edges(text, min_chars), len(text)] if self._cuts else [0, len(text)]
        return [text[edges[at] : edges[at + 1]] for at in range(len(edges) - 1)]

    def _edges(self, text: str, min_chars: int) -> Iterator[int]:
        last = 0
        for match in self._added.finditer(text):
            if match.start() - last >= min_chars and match[0] in self._cuts:
                last = match.start()
                yield last


def _is_boundary(token: AddedToken) -> bool:
    return not token.lstrip and not token.content[:1].isspace()
