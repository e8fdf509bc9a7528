"""How many connections a session tries, keeps and gives up, on a clock moved by hand."""

from collections.abc import Callable

from prfaas.wire.connection_count import HOLD_S, IDLE_S, SHORT_TRIP_S, ConnectionCount

STEP_S = 0.1
LONG_TRIP_S = 0.03


class Path:
    """A network that moves ``rate(connections)`` bytes a second as long as frames wait for it."""

    def __init__(self, count: ConnectionCount, rate: Callable[[int], float], rtt_s: float = LONG_TRIP_S) -> None:
        self.count, self.rate, self.rtt_s = count, rate, rtt_s
        self.now_s = self.moved = 0.0
        self.history = [count.wanted]

    def run(self, seconds: float, *, is_network_bound: bool = True) -> list[int]:
        """Let time pass; return the decisions since the beginning, each once."""
        for _ in range(round(seconds / STEP_S)):
            self.now_s += STEP_S
            self.moved += self.rate(self.count.wanted) * STEP_S
            wanted = self.count.observe(self.now_s, round(self.moved), self.rtt_s, is_network_bound=is_network_bound)
            if wanted != self.history[-1]:
                self.history.append(wanted)
        return self.history


def test_connections_double_as_long_as_they_move_more() -> None:
    """A path where each connection moves its share, up to the bound."""
    path = Path(ConnectionCount(2, 16), lambda connections: 1e6 * connections)
    assert path.run(10) == [2, 4, 8, 16]


def test_what_did_not_help_is_taken_back_and_not_tried_again_soon() -> None:
    """A path that four connections fill: eight are tried once, and once more only after the hold."""
    path = Path(ConnectionCount(2, 16), lambda connections: 1e6 * min(connections, 4))
    assert path.run(HOLD_S / 2) == [2, 4, 8, 4]
    assert path.run(HOLD_S)[4:6] == [8, 4]


def test_a_short_round_trip_needs_no_more() -> None:
    """Where a window is worth hundreds of MB/s nothing is tried."""
    path = Path(ConnectionCount(2, 16), lambda connections: 1e6 * connections, rtt_s=SHORT_TRIP_S / 2)
    assert path.run(10) == [2]


def test_senders_that_wait_for_data_or_credit_try_nothing() -> None:
    """More connections cannot help when the network is not what is waited for."""
    path = Path(ConnectionCount(2, 16), lambda connections: 1e6 * connections)
    assert path.run(10, is_network_bound=False) == [2]


def test_a_short_stretch_of_waiting_is_no_measurement() -> None:
    """Only intervals during which frames waited all the time count."""
    path = Path(ConnectionCount(2, 16), lambda connections: 1e6 * connections)
    for _ in range(100):
        path.run(2 * STEP_S)
        path.run(STEP_S, is_network_bound=False)
    assert path.history == [2]


def test_an_outage_is_no_measurement() -> None:
    """While nothing moves nothing is tried, and what was being tried is judged when it moves again."""
    rate = 1e6
    path = Path(ConnectionCount(2, 16), lambda connections: rate * connections)
    path.run(1)
    before = list(path.history)
    rate = 0.0
    assert path.run(10) == before
    rate = 1e6
    assert path.run(10) == [2, 4, 8, 16]


def test_a_rest_goes_back_to_the_first_count() -> None:
    """Connections that nobody uses are given up."""
    path = Path(ConnectionCount(2, 16), lambda connections: 1e6 * connections)
    path.run(10)
    path.run(IDLE_S / 2, is_network_bound=False)
    assert path.history[-1] == 16
    path.run(IDLE_S, is_network_bound=False)
    assert path.history[-1] == 2
