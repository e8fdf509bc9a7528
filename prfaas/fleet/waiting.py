"""What waits at an engine or for a link: prompt tokens without their prefill, requests without their cache."""

from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

Place = TypeVar("Place", bound=Hashable)


class Waiting(Generic[Place]):
    """Counts it by engine or link, this gateway's own alone. Belongs to one event loop."""

    def __init__(self) -> None:
        self._counts: Counter[Place] = Counter()

    def of(self, place: Place) -> int:
        """What waits there now."""
        return self._counts[place]

    @contextmanager
    def at(self, place: Place, count: int = 1) -> Iterator[None]:
        """Count so much there for the duration of the block."""
        self._counts[place] += count
        try:
            yield
        finally:
            self._counts[place] -= count
