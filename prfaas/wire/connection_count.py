"""How many data connections a session should have: more as long as more of them move more.

One TCP connection moves at most a window a round trip, and less where packets are lost. How much that is cannot be
known beforehand, so it is tried: while frames wait for the network, twice as many connections are opened, and kept if
the goodput follows.

    steady   -> trying   frames waited for the network during a whole interval
    trying   -> trying   the goodput grew: twice as many again
    trying   -> holding  it did not: back to the last count
    holding  -> steady   after HOLD_S
    any      -> steady   nothing waited for IDLE_S: back to the first count
"""

INTERVAL_S = 0.4
"""One measurement, at least; and at least ROUND_TRIPS, for a new connection starts slowly."""
ROUND_TRIPS = 10
GAIN = 1.15
"""What doubling must bring: below it the path, not the window, is the limit."""
HOLD_S = 20.0
IDLE_S = 300.0
"""For so long the count that was found is kept: the next transfer begins with it, and the search costs some seconds."""
SHORT_TRIP_S = 0.002
"""Below this round trip one window of 1 MiB moves more than 500 MB/s; more connections only cost processor time."""


class ConnectionCount:
    """Decides from what one session's owner sees at regular moments; time is an argument.

    Args:
        first: connections at the beginning and after a rest.
        most: the bound.

    Attributes:
        wanted: the decision.
    """

    def __init__(self, first: int, most: int) -> None:
        self.wanted = first
        self._first, self._most = first, max(first, most)
        self._began_s = self._waited_s = self._hold_until_s = 0.0
        self._began_bytes = -1
        self._is_settling = False
        self._tried: tuple[int, float] | None = None

    def observe(self, now_s: float, moved_bytes: int, rtt_s: float, *, is_network_bound: bool) -> int:
        """Take in how things stand and decide.

        Args:
            moved_bytes: acknowledged bytes since the session began.
            rtt_s: round trip without load.
            is_network_bound: frames wait, and it is only the network that does not take them.
        """
        if not is_network_bound:
            self._began_bytes = -1
            if now_s - self._waited_s > IDLE_S:
                self.wanted, self._tried = self._first, None
            return self.wanted
        self._waited_s = now_s
        if self._began_bytes < 0:
            self._begin(now_s, moved_bytes)
        elapsed_s = now_s - self._began_s
        if elapsed_s >= max(INTERVAL_S, ROUND_TRIPS * rtt_s):
            if moved_bytes > self._began_bytes:  # or the network is out, and a measurement would mean nothing
                self._decide(now_s, (moved_bytes - self._began_bytes) / elapsed_s, rtt_s)
            self._begin(now_s, moved_bytes)
        return self.wanted

    def _begin(self, now_s: float, moved_bytes: int) -> None:
        self._began_s, self._began_bytes = now_s, moved_bytes

    def _decide(self, now_s: float, rate_bytes_s: float, rtt_s: float) -> None:
        if self._is_settling:
            self._is_settling = False
            return
        if self._tried is not None and rate_bytes_s < GAIN * self._tried[1]:
            self.wanted, self._tried = self._tried[0], None
            self._hold_until_s = now_s + HOLD_S
        elif self.wanted < self._most and rtt_s >= SHORT_TRIP_S and now_s >= self._hold_until_s:
            self._tried = (self.wanted, rate_bytes_s)
            self.wanted = min(2 * self.wanted, self._most)
            self._is_settling = True
        else:
            self._tried = None
