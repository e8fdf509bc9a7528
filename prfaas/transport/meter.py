"""The link meter: what passes between this engine and one peer in one direction, and how well.

A sending session calls ``sent``, ``delivered`` and ``lost`` for its bytes, a receiving one ``received``; both call
``waits`` when that may have changed and ``sample`` a few times a second. A meter outlives sessions, so its counters
only grow.
"""

from collections import deque

from prfaas.clock import Clock
from prfaas.transport.congestion import CongestionSignal
from prfaas.transport.goodput import Goodput, Throughput
from prfaas.transport.tcp_info import PathSample
from prfaas.types import LinkStatistics

BURST_GAP_S = 0.05
"""A receiver cannot see whether the peer has something to send: a longer gap between frames counts as idle."""
HEARTBEATS = 3
"""The shortest of so many round trips counts: a full queue delays them all, a process that waits for its turn on the
processor one or the other."""
MAX_PEERS = 128
"""Meters, and so label values, of one direction; beyond it the one that has been silent longest is forgotten. All
together fit into one message to the worker."""
MAX_PEER_CHARS = 128
"""Names come from peers."""


class Stopwatch:
    """Sums the time during which something is the case."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._total_s = 0.0
        self._since_s: float | None = None

    def set(self, is_running: bool) -> None:
        """Start or stop; no change is fine."""
        if is_running and self._since_s is None:
            self._since_s = self._clock.now_s()
        elif not is_running and self._since_s is not None:
            self._total_s += self._clock.now_s() - self._since_s
            self._since_s = None

    def add(self, seconds: float) -> None:
        """Count time that is over."""
        self._total_s += seconds

    @property
    def total_s(self) -> float:
        """Until now."""
        return self._total_s + (0.0 if self._since_s is None else self._clock.now_s() - self._since_s)


class LinkMeter:
    """One peer, one direction. ``bandwidth_bytes_s`` is what the configuration says of the link, 0 for nothing.

    Attributes:
        sampled_s: when the last sample was taken.
    """

    def __init__(self, peer: str, *, is_sending: bool, bandwidth_bytes_s: float, clock: Clock) -> None:
        self.sampled_s = clock.now_s()
        self._peer, self._is_sending, self._bandwidth_bytes_s = peer, is_sending, bandwidth_bytes_s
        self._clock = clock
        self._goodput, self._throughput = Goodput(), Throughput(clock.now_s())
        self._congestion = CongestionSignal()
        self._active, self._stalled = Stopwatch(clock), Stopwatch(clock)
        self._delivered_bytes = self._resent_bytes = self._in_flight_bytes = self._retransmitted_segments = 0
        self._folded_bytes, self._folded_active_s = 0, 0.0
        self._received_s = -BURST_GAP_S
        self._unrated_bytes = 0
        self._has_data = False
        self._ran_dry = True
        self._path, self._queued_bytes = PathSample(), 0
        self._rtt_s = self._min_tcp_s = self._min_heartbeat_s = 0.0
        self._heartbeats_s: deque[float] = deque(maxlen=HEARTBEATS)

    @property
    def min_rtt_s(self) -> float:
        """Shortest round trip ever seen, of TCP or the heartbeats; 0 before the first."""
        return _shortest(self._min_tcp_s, self._min_heartbeat_s)

    def sent(self, size: int) -> None:
        """Payload was handed to a connection."""
        self._in_flight_bytes += size
        self._active.set(True)

    def delivered(self, size: int) -> None:
        """The peer has verified payload that was sent."""
        self._delivered_bytes += size
        self._leave_flight(size)

    def lost(self, size: int) -> None:
        """Payload that was sent will not be acknowledged."""
        self._leave_flight(size)

    def resent(self, size: int) -> None:
        """Payload that was lost leaves again."""
        self._resent_bytes += size

    def received(self, size: int) -> None:
        """A verified frame came. The first one after a gap begins a burst and is in no rate: its start is unknown."""
        now_s = self._clock.now_s()
        gap_s, self._received_s = now_s - self._received_s, now_s
        self._delivered_bytes += size
        if gap_s < BURST_GAP_S:
            self._active.add(gap_s)
        else:
            self._unrated_bytes += size

    def waits(self, *, has_data: bool, has_credit: bool) -> None:
        """Whether there is something to send (or a load that wants it), and credit for it."""
        self._has_data = has_data
        self._ran_dry |= not has_data
        self._stalled.set(has_data and not has_credit)

    def sample(self, path: PathSample, heartbeat_rtt_s: float, queued_bytes: int) -> None:
        """Take in how the path looks now and what passed since the last sample.

        Args:
            path: the session's data connections.
            heartbeat_rtt_s: latest round trip on the control stream, 0 before the first.
            queued_bytes: see ``LinkStatistics``.
        """
        now_s = self.sampled_s = self._clock.now_s()
        self._path, self._queued_bytes = path, queued_bytes
        self._retransmitted_segments += path.retransmitted_segments
        if heartbeat_rtt_s and heartbeat_rtt_s not in self._heartbeats_s:  # one is there for several samples
            self._heartbeats_s.append(heartbeat_rtt_s)
        self._min_tcp_s = _shortest(self._min_tcp_s, path.min_rtt_s, path.rtt_s)
        self._min_heartbeat_s = _shortest(self._min_heartbeat_s, heartbeat_rtt_s)
        # TCP keeps its estimate up only while it sends; between transfers the heartbeats know better. Each is compared
        # with its own shortest: TCP may see the way to a proxy alone, and heartbeats pass through both processes.
        is_tcp = bool(path.sent_segments and path.rtt_s)
        self._rtt_s = path.rtt_s if is_tcp else _shortest(*self._heartbeats_s)
        self._congestion.update(path, self._rtt_s, self._min_tcp_s if is_tcp else self._min_heartbeat_s, now_s)
        self._fold(now_s)

    def rest(self) -> None:
        """The session is over: nothing is open, queued or awaited until the next one."""
        self.waits(has_data=False, has_credit=False)
        self._path, self._queued_bytes = PathSample(), 0

    def statistics(self) -> LinkStatistics:
        """The figures now; rates and round trips are those of the last sample."""
        bandwidth_bytes_s = self._bandwidth_bytes_s
        return LinkStatistics(
            peer=self._peer,
            is_sending=self._is_sending,
            connections=self._path.connections,
            delivered_bytes=self._delivered_bytes,
            resent_bytes=self._resent_bytes,
            goodput_bytes_s=self._goodput.bytes_s,
            bandwidth_bytes_s=bandwidth_bytes_s,
            utilisation=self._throughput.bytes_s / bandwidth_bytes_s if bandwidth_bytes_s else 0.0,
            rtt_s=self._rtt_s,
            min_rtt_s=self.min_rtt_s,
            retransmitted_segments=self._retransmitted_segments,
            retransmit_rate=self._congestion.retransmit_rate,
            in_flight_bytes=self._in_flight_bytes,
            queued_bytes=self._queued_bytes,
            active_s=self._active.total_s,
            credit_stall_s=self._stalled.total_s,
            is_congested=self._congestion.is_congested,
        )

    def _leave_flight(self, size: int) -> None:
        self._in_flight_bytes -= size
        self._active.set(self._in_flight_bytes > 0)

    def _fold(self, now_s: float) -> None:
        """Bring the moving averages up to date."""
        new_bytes, self._folded_bytes = self._delivered_bytes - self._folded_bytes, self._delivered_bytes
        active_s = self._active.total_s
        new_active_s, self._folded_active_s = active_s - self._folded_active_s, active_s
        self._throughput.add(new_bytes, now_s)
        self._goodput.add(new_bytes - self._unrated_bytes, new_active_s, ran_dry=self._ran_dry)
        self._unrated_bytes, self._ran_dry = 0, not self._has_data


def _shortest(*rtts_s: float) -> float:
    """Of those that are known; 0 for none."""
    return min((rtt_s for rtt_s in rtts_s if rtt_s), default=0.0)


class LinkMeters:
    """The meters of one direction, by peer."""

    def __init__(self, *, is_sending: bool, bandwidth_bytes_s: float, clock: Clock) -> None:
        self._is_sending, self._bandwidth_bytes_s, self._clock = is_sending, bandwidth_bytes_s, clock
        self._meters: dict[str, LinkMeter] = {}

    def of(self, peer: str) -> LinkMeter:
        """The meter of a peer, made when it is new."""
        peer = peer[:MAX_PEER_CHARS]
        meter = self._meters.get(peer)
        if meter is None:
            if len(self._meters) >= MAX_PEERS:
                del self._meters[min(self._meters, key=lambda each: self._meters[each].sampled_s)]
            meter = self._meters[peer] = LinkMeter(
                peer, is_sending=self._is_sending, bandwidth_bytes_s=self._bandwidth_bytes_s, clock=self._clock
            )
        return meter

    def statistics(self) -> tuple[LinkStatistics, ...]:
        """The figures of all peers."""
        return tuple(meter.statistics() for meter in self._meters.values())
