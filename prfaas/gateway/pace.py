"""How often streams are passed on: each part as it comes, but fewer and larger ones as the process gets busy.

A part costs the same to pass on whether it holds one event or four. A process that is nearly busy therefore lets each
stream rest a little between two parts: events gather, the same tokens cost less, and there is room for the requests
that have not had their first token yet. The first part of an answer never waits.
"""

import asyncio
import time
from collections.abc import Callable

INTERVAL_S = 0.02
"""Between two looks; a burst of arrivals lasts longer, a clock tick of the processor's time is shorter."""
WEIGHT = 0.3
"""Of the newest look in the moving average: the last five or so count."""
IDLE_SHARE, BUSY_SHARE = 0.4, 0.7
"""Of the processor: below the first nothing rests; from the second on every stream rests as long as it may."""
MAX_REST_S = 0.01
"""Less than a frame of any screen, and less than engines take for a token of most models."""


def rest_s(share: float) -> float:
    """How long a stream rests when the process takes this share of a processor."""
    fullness = (share - IDLE_SHARE) / (BUSY_SHARE - IDLE_SHARE)
    return MAX_REST_S * min(1.0, max(0.0, fullness))


class Pace:
    """Looks at what this thread takes of its processor. Belongs to one event loop.

    Attributes:
        rest_s: how long a stream rests after each part, now.
    """

    def __init__(
        self, wall_s: Callable[[], float] = time.monotonic, busy_s: Callable[[], float] = time.thread_time
    ) -> None:
        """``busy_s`` tells the processor time of the event loop's thread."""
        self.rest_s = 0.0
        self._wall_s = wall_s
        self._busy_s = busy_s
        self._share = 0.0
        self._last = (wall_s(), busy_s())

    def look(self) -> None:
        """Take in what has passed since the last look."""
        wall_s, busy_s = self._wall_s(), self._busy_s()
        before_wall_s, before_busy_s = self._last
        self._last = (wall_s, busy_s)
        if wall_s > before_wall_s:
            share = (busy_s - before_busy_s) / (wall_s - before_wall_s)
            self._share += WEIGHT * (share - self._share)
            self.rest_s = rest_s(self._share)

    async def run(self) -> None:
        """Look until cancelled."""
        self.look()
        while True:
            await asyncio.sleep(INTERVAL_S)
            self.look()
