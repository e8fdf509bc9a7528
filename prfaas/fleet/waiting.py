"""What waits at an engine: prompt tokens that are not prefilled yet, or requests whose cache is not there yet."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Waiting:
    """Counts it by engine, this gateway's own alone. Belongs to one event loop."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def of(self, engine: str) -> int:
        """What waits there now."""
        return self._counts[engine]

    @contextmanager
    def at(self, engine: str, count: int = 1) -> Iterator[None]:
        """Count so much at the engine for the duration of the block."""
        self._counts[engine] += count
        try:
            yield
        finally:
            self._counts[engine] -= count
