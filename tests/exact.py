"""The comparisons whose failure is final: no test is asked again that saw a wrong token or byte (decision 006)."""

from collections.abc import Sequence

MAX_SHOWN = 500
"""Characters of a value in a message."""


class Inexact(AssertionError):
    """An answer, or a cache, that one engine alone would not have given."""


def assert_exact(tokens: Sequence[int], alone: Sequence[int]) -> None:
    """Raises Inexact unless an answer's tokens are those of one engine alone."""
    assert_equal(list(tokens), list(alone))


def assert_equal(seen: object, expected: object) -> None:
    """Raises Inexact unless what was seen of an answer, or of a cache, is what had to be."""
    if seen != expected:
        raise Inexact(f"{_shown(seen)} instead of {_shown(expected)}")


def assert_equal_logprobs(difference: float) -> None:
    """Raises Inexact unless the largest difference of the log probabilities of two answers is 0."""
    if difference != 0.0:
        raise Inexact(f"log probabilities differ by {difference}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
