"""The one comparison whose failure is final: no test is asked again that saw a wrong token (decision 006)."""

from collections.abc import Sequence


class Inexact(AssertionError):
    """An answer that one engine alone would not have given."""


def assert_exact(tokens: Sequence[int], alone: Sequence[int]) -> None:
    """Raises Inexact unless an answer's tokens are those of one engine alone."""
    if list(tokens) != list(alone):
        raise Inexact(f"{list(tokens)} instead of {list(alone)}")


def assert_equal_logprobs(difference: float) -> None:
    """Raises Inexact unless the largest difference of the log probabilities of two answers is 0."""
    if difference != 0.0:
        raise Inexact(f"log probabilities differ by {difference}")
