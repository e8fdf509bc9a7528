"""Prompt tokens that have been placed and are not prefilled yet."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class WaitingTokens:
    """Counts them by engine, this gateway's own alone. Belongs to one event loop."""

    def __init__(self) -> None:
        self._tokens: Counter[str] = Counter()

    def of(self, engine: str) -> int:
        """What waits there now."""
        return self._tokens[engine]

    @contextmanager
    def at(self, engine: str, tokens: int) -> Iterator[None]:
        """Count ``tokens`` at the engine for the duration of the block."""
        self._tokens[engine] += tokens
        try:
            yield
        finally:
            self._tokens[engine] -= tokens
