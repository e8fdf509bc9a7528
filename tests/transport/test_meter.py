"""The link meter on a manual clock."""

import msgspec
import pytest

from prfaas.clock import ManualClock
from prfaas.transport.channel import MAX_MESSAGE_BYTES
from prfaas.transport.messages import Statistics
from prfaas.transport.meter import MAX_PEER_CHARS, MAX_PEERS, LinkMeter, LinkMeters
from prfaas.transport.tcp_info import PathSample
from prfaas.types import LinkStatistics, MoverStatistics

MB = 1_000_000
PATH = PathSample(connections=2, rtt_s=0.04, min_rtt_s=0.03, sent_segments=100, retransmitted_segments=1)


class Link:
    """A meter and a link that carries ``rate`` bytes a second after one round trip."""

    def __init__(self, *, is_sending: bool = True, bandwidth_bytes_s: float = 100 * MB) -> None:
        self.clock = ManualClock(100.0)
        self.meter = LinkMeter("cloud", is_sending=is_sending, bandwidth_bytes_s=bandwidth_bytes_s, clock=self.clock)

    def send(self, seconds: float, rate_bytes_s: float, *, has_more: bool = True) -> None:
        """Keep two frames in flight, in steps of 10 ms; sample every 100 ms."""
        self.meter.waits(has_data=has_more, has_credit=True)
        size = int(rate_bytes_s / 100)
        self.meter.sent(size)
        for step in range(round(seconds * 100)):
            self.meter.sent(size)
            self.clock.advance(0.01)
            self.meter.delivered(size)
            if step % 10 == 9:
                self.sample()
        self.meter.delivered(size)

    def idle(self, seconds: float) -> None:
        self.meter.waits(has_data=False, has_credit=True)
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)
            self.sample(PathSample(connections=2, rtt_s=0.5))

    def sample(self, path: PathSample = PATH, *, heartbeat_rtt_s: float = 0.032) -> None:
        self.meter.sample(path, heartbeat_rtt_s, 5)


def test_goodput_is_over_active_time_and_utilisation_over_all_time() -> None:
    """A pause changes the share of the bandwidth in use, not the speed at which the link delivers."""
    link = Link()
    link.send(5.0, 50 * MB)
    busy = link.meter.statistics()
    link.idle(20.0)
    idle = link.meter.statistics()
    assert busy.goodput_bytes_s == pytest.approx(50 * MB, rel=0.02)
    assert idle.goodput_bytes_s == pytest.approx(busy.goodput_bytes_s, rel=0.05)
    assert busy.utilisation == pytest.approx(0.5, rel=0.15)
    assert idle.utilisation < 0.01
    assert idle.active_s == pytest.approx(5.0)
    assert busy.delivered_bytes == idle.delivered_bytes == pytest.approx(250 * MB, rel=0.01)


def test_a_slower_link_lowers_goodput_but_a_slow_source_does_not() -> None:
    """Only what was sent with more waiting behind it says that the link is slow; more than before always counts."""
    link = Link()
    link.send(5.0, 50 * MB)
    link.send(5.0, 10 * MB, has_more=False)
    assert link.meter.statistics().goodput_bytes_s == pytest.approx(50 * MB, rel=0.05)
    link.send(20.0, 10 * MB)
    assert link.meter.statistics().goodput_bytes_s == pytest.approx(10 * MB, rel=0.1)
    link.send(20.0, 80 * MB, has_more=False)
    assert link.meter.statistics().goodput_bytes_s == pytest.approx(80 * MB, rel=0.1)


def test_bytes_in_flight_are_what_is_neither_delivered_nor_lost() -> None:
    """Lost bytes leave the link; only those that leave again count as resent."""
    link = Link()
    link.meter.sent(10)
    link.meter.sent(20)
    link.meter.sent(30)
    link.meter.delivered(10)
    link.meter.lost(20)
    link.meter.resent(20)
    link.meter.lost(5)
    figures = link.meter.statistics()
    assert (figures.in_flight_bytes, figures.delivered_bytes, figures.resent_bytes) == (25, 10, 20)


def test_credit_stalls_are_timed_while_data_waits() -> None:
    """No data, no stall; data without credit is one until credit comes, and it shows while it lasts."""
    link = Link()
    for has_data, has_credit, seconds in [
        (False, False, 1.0),
        (True, False, 2.0),
        (True, True, 4.0),
        (True, False, 8.0),
    ]:
        link.meter.waits(has_data=has_data, has_credit=has_credit)
        link.clock.advance(seconds)
    assert link.meter.statistics().credit_stall_s == pytest.approx(10.0)


def test_the_round_trip_is_tcp_s_while_it_sends_and_the_heartbeat_s_between() -> None:
    """TCP's estimate stands still when nothing is sent, so it is not believed then."""
    link = Link()
    link.sample()
    assert (link.meter.statistics().rtt_s, link.meter.statistics().min_rtt_s) == (0.04, 0.03)
    link.sample(PathSample(connections=2, rtt_s=0.5, min_rtt_s=0.03), heartbeat_rtt_s=0.025)
    assert (link.meter.statistics().rtt_s, link.meter.statistics().min_rtt_s) == (0.025, 0.025)
    assert link.meter.statistics().retransmitted_segments == 1


def test_one_late_heartbeat_is_no_congestion_three_are() -> None:
    """An engine's core may be busy when one comes; a full queue delays them all."""
    link = Link()
    for rtt_s, is_congested in [(0.030, False), (0.130, False), (0.140, False), (0.150, True), (0.031, False)]:
        for _ in range(4):
            link.sample(PathSample(connections=2, min_rtt_s=0.03), heartbeat_rtt_s=rtt_s)
        assert link.meter.statistics().is_congested is is_congested


def test_tcp_that_ends_at_a_proxy_makes_no_congestion() -> None:
    """It sees the short way to the proxy, the heartbeats the whole one: neither is late for the other's sake."""
    link = Link()
    for _ in range(5):
        link.sample(PathSample(connections=2, rtt_s=0.0003, min_rtt_s=0.0002, sent_segments=10), heartbeat_rtt_s=0.033)
        assert not link.meter.statistics().is_congested
        link.sample(PathSample(connections=2, rtt_s=0.0003, min_rtt_s=0.0002), heartbeat_rtt_s=0.034)
        assert not link.meter.statistics().is_congested
    assert link.meter.statistics().min_rtt_s == 0.0002


def test_a_receiver_rates_bursts_and_not_the_gaps_between_them() -> None:
    """Frames 10 ms apart are one burst; the first frame after a second's silence begins the next."""
    link = Link(is_sending=False)
    for _ in range(20):
        for _ in range(100):
            link.meter.received(MB)
            link.clock.advance(0.01)
        link.clock.advance(1.0)
        link.sample()
    figures = link.meter.statistics()
    assert figures.goodput_bytes_s == pytest.approx(100 * MB, rel=0.01)
    assert figures.delivered_bytes == 2000 * MB
    assert figures.active_s == pytest.approx(20 * 0.99)


def test_without_a_configured_bandwidth_there_is_no_utilisation() -> None:
    """Zero stands for unknown."""
    link = Link(bandwidth_bytes_s=0)
    link.send(1.0, 50 * MB)
    assert link.meter.statistics().utilisation == 0.0


def test_a_congested_path_shows() -> None:
    """The signal is fed from the samples."""
    link = Link()
    link.sample(PathSample(1, rtt_s=0.2, min_rtt_s=0.03, sent_segments=10))
    assert link.meter.statistics().is_congested


def test_meters_outlive_sessions_and_are_bounded() -> None:
    """A peer that comes back goes on counting; the peer unheard of for longest makes room for a new one."""
    clock = ManualClock()
    meters = LinkMeters(is_sending=True, bandwidth_bytes_s=0, clock=clock)
    for number in range(MAX_PEERS):
        meters.of(f"peer-{number}").sent(1)
        clock.advance(1.0)
    meters.of("peer-0").sample(PATH, 0.0, 0)
    assert meters.of("peer-0").statistics().in_flight_bytes == 1
    meters.of("newcomer")
    peers = {figures.peer for figures in meters.statistics()}
    assert len(peers) == MAX_PEERS
    assert {"peer-0", "newcomer"} <= peers
    assert "peer-1" not in peers


def test_the_figures_of_all_peers_fit_into_one_message() -> None:
    """However many peers there are and however long their names, the worker can be told."""
    links = LinkStatistics(
        "x" * MAX_PEER_CHARS, True, 64, 2**63, 2**63, *(1 / 3,) * 5, 2**63, 1 / 3, 2**63, 2**63, 1 / 3, 1 / 3, True
    )
    message = Statistics(MoverStatistics(*(2**63,) * 13, links=(links,) * (2 * MAX_PEERS)))
    assert len(msgspec.msgpack.encode(message)) <= MAX_MESSAGE_BYTES
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=Statistics) == message
    meters = LinkMeters(is_sending=True, bandwidth_bytes_s=0, clock=ManualClock())
    assert meters.of("x" * 4096) is meters.of("x" * MAX_PEER_CHARS)
