"""The rules of a session: handshake, liveness and the estimate of the clocks' difference.

A session is one control stream between a decode engine (which dials) and a prefill engine:

    decode side     -> Hello                          state DIALED -> OPEN on Welcome, CLOSED on Refused
    prefill side    -> Welcome or Refused             state LISTENING -> OPEN on a Hello that fits
    both, when open -> Heartbeat and transfer messages
    both            close at silence beyond the lease, at a broken rule, and when the stream ends
"""

import enum
from collections import deque
from dataclasses import dataclass

from prfaas.errors import RemoteProtocolError
from prfaas.types import Fingerprint
from prfaas.wire.control import (
    Abort,
    Accepted,
    Ack,
    Bye,
    Connections,
    ControlMessage,
    Credit,
    Done,
    Hangup,
    Heartbeat,
    Hello,
    Lost,
    Manifest,
    Nack,
    Open,
    Refused,
    Start,
    Welcome,
)

VERSIONS = (1,)
"""Protocol versions this code speaks."""
CLOCK_SAMPLES = 8
"""Heartbeats remembered for the clock estimate: follows drift within seconds, forgets a slow round trip as fast."""
SILENT_BEATS = 3
"""Heartbeats that a stream may miss before another is made: far less than the lease, for that has to work in time."""


class SessionState(enum.Enum):
    """Where a session stands."""

    DIALED = "dialed"
    LISTENING = "listening"
    OPEN = "open"
    CLOSED = "closed"


_FROM_DECODE = (Heartbeat, Open, Start, Credit, Ack, Done, Abort, Lost, Nack, Bye)
_FROM_PREFILL = (Heartbeat, Accepted, Manifest, Abort, Hangup, Connections)

RECEIVABLE: dict[tuple[SessionState, bool], tuple[type[ControlMessage], ...]] = {
    (SessionState.DIALED, True): (Welcome, Refused),
    (SessionState.LISTENING, False): (Hello,),
    (SessionState.OPEN, True): _FROM_PREFILL,
    (SessionState.OPEN, False): _FROM_DECODE,
}
"""(state, whether we dialed) -> what the peer may say; anything else closes the session."""


@dataclass(frozen=True)
class Identity:
    """What this engine says of itself in a handshake."""

    engine_id: str
    epoch: int
    slot_bytes: int
    fingerprint: Fingerprint


def hello(us: Identity) -> Hello:
    """The dialer's first message."""
    return Hello(VERSIONS, us.engine_id, us.epoch, us.slot_bytes, us.fingerprint)


def answer(us: Identity, hello: Hello, data_port: int, session_token: bytes) -> Welcome | Refused:
    """Decide on a peer's ``Hello``."""
    common = set(VERSIONS) & set(hello.versions)
    if not common:
        return Refused("protocol version", _listed(VERSIONS), _listed(hello.versions))
    mismatch = us.fingerprint.mismatch(hello.fingerprint)
    if mismatch is not None:
        return Refused(*mismatch)
    if hello.slot_bytes < us.slot_bytes:
        return Refused("slot_bytes (decode may not be below prefill)", str(us.slot_bytes), str(hello.slot_bytes))
    return Welcome(max(common), us.engine_id, us.epoch, data_port, session_token)


def refusal_text(refused: Refused) -> str:
    """What the decode side says when it was refused."""
    return (
        f"the prefill engine refused this engine: {refused.field} is {refused.ours!r} there and {refused.theirs!r} "
        "here; both must run the same model, vLLM and cache settings"
    )


def _listed(versions: tuple[int, ...]) -> str:
    return ",".join(map(str, versions))


class Session:
    """State, lease and clock estimate of one side of a session; time is an argument.

    Args:
        dialed: whether this is the decode side.
        lease_s: silence after which the peer counts as gone.
        heartbeat_s: interval of our heartbeats.
        now_s: time at which the stream began.
    """

    def __init__(self, *, dialed: bool, lease_s: float, heartbeat_s: float, now_s: float) -> None:
        self.state = SessionState.DIALED if dialed else SessionState.LISTENING
        self._dialed = dialed
        self._lease_s, self._heartbeat_s = lease_s, heartbeat_s
        self._heard_s = now_s
        self._next_heartbeat_s = now_s
        self._peer_sent_ns = 0
        self._heartbeat_heard_s = now_s
        self._samples: deque[tuple[float, float]] = deque(maxlen=CLOCK_SAMPLES)

    def receive(self, message: ControlMessage, now_s: float) -> None:
        """Account for a message of the peer.

        Raises:
            RemoteProtocolError: the peer may not say this now.
        """
        if not isinstance(message, RECEIVABLE.get((self.state, self._dialed), ())):
            raise RemoteProtocolError(f"{type(message).__name__} while the session is {self.state.value}")
        self._heard_s = now_s
        if isinstance(message, Welcome) and message.version not in VERSIONS:
            raise RemoteProtocolError(f"the peer chose version {message.version} of {_listed(VERSIONS)}")
        if isinstance(message, Welcome | Hello):
            self.state = SessionState.OPEN
        elif isinstance(message, Heartbeat):
            self._heartbeat(message, now_s)

    def resumed(self, now_s: float) -> None:
        """The peer lives: it goes on with a new stream."""
        self._heard_s = now_s

    def is_silent(self, now_s: float) -> bool:
        """The peer has missed its heartbeats: its stream is as good as broken."""
        return now_s - self._heard_s > SILENT_BEATS * self._heartbeat_s

    def close(self) -> None:
        """The session is over or about to be."""
        self.state = SessionState.CLOSED

    def is_expired(self, now_s: float) -> bool:
        """The peer has been silent beyond its lease."""
        return now_s - self._heard_s > self._lease_s

    def heartbeat_due(self, now_s: float) -> Heartbeat | None:
        """Our next heartbeat, when it is time."""
        if self.state is not SessionState.OPEN or now_s < self._next_heartbeat_s:
            return None
        self._next_heartbeat_s = now_s + self._heartbeat_s
        hold_ns = round((now_s - self._heartbeat_heard_s) * 1e9) if self._peer_sent_ns else 0
        return Heartbeat(round(now_s * 1e9), self._peer_sent_ns, hold_ns)

    @property
    def clock_offset_s(self) -> float:
        """The peer's clock minus ours, from the sample with the shortest round trip; 0 before the first."""
        return min(self._samples, default=(0.0, 0.0))[1]

    @property
    def rtt_s(self) -> float:
        """Shortest recent round trip of a heartbeat, 0 before the first."""
        return min(self._samples, default=(0.0, 0.0))[0]

    @property
    def latest_rtt_s(self) -> float:
        """Round trip of the latest heartbeat, queues on the path included; 0 before the first."""
        return self._samples[-1][0] if self._samples else 0.0

    def _heartbeat(self, beat: Heartbeat, now_s: float) -> None:
        if not self._peer_sent_ns:
            # The first one is answered at once, so that the peer has a clock estimate before its first transfer ends.
            self._next_heartbeat_s = now_s
        self._peer_sent_ns, self._heartbeat_heard_s = beat.sent_ns, now_s
        if beat.echo_ns:
            round_trip_s = max(0.0, now_s - (beat.echo_ns + beat.hold_ns) / 1e9)
            self._samples.append((round_trip_s, beat.sent_ns / 1e9 + round_trip_s / 2 - now_s))
