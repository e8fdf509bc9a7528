"""What a mover is told at its start."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from prfaas.errors import TransferFailed
from prfaas.observe.settings import LogSettings, TraceSettings
from prfaas.prefix import PrefixGeometry
from prfaas.types import Fingerprint


@dataclass(frozen=True)
class TlsSettings:
    """Where a site's files are and what the other sites are called. Names are DNS names in certificates.

    Attributes:
        ca: file of the authorities whose certificates are believed.
        cert, key: file of this site's certificate (chain) and of its key.
        names: "host:port" that may be dialed -> the name that whoever answers there must have.
        decode_names: who may open sessions here, and so load caches.
        report_names: who may ask for reports and statistics here.
    """

    ca: str
    cert: str
    key: str
    names: Mapping[str, str] = field(default_factory=dict)
    decode_names: tuple[str, ...] = ()
    report_names: tuple[str, ...] = ()

    def name_at(self, address: str) -> str:
        """The name that must answer at ``address``.

        Raises:
            TransferFailed: nobody knows it; a certificate without an expected name would prove nothing.
        """
        name = self.names.get(address)
        if name is None:
            raise TransferFailed(f"{address} is the kv endpoint of no engine in this configuration; add it there")
        return name

    def may_look(self, listen: str | None) -> tuple[str, ...]:
        """Who may ask which engine runs at ``listen`` and how fast the path from it is: whoever loads caches from it
        or asks it for reports, and its own site."""
        own = self.names.get(listen or "")
        return (*self.decode_names, *self.report_names, *((own,) if own else ()))


@dataclass(frozen=True)
class RateLimit:
    """How fast cache bytes may leave for some engines, all of them together.

    Attributes:
        peers: their engine ids.
        bytes_s: payload bytes a second; 0 for no limit.
    """

    peers: tuple[str, ...]
    bytes_s: float


@dataclass(frozen=True)
class EventSource:
    """Where the engine publishes its cache events.

    Attributes:
        endpoint, replay_endpoint: ZMQ endpoints on this machine; without the second one, what is missed is lost.
        topic: of the events.
    """

    endpoint: str
    replay_endpoint: str | None = None
    topic: str = ""


@dataclass(frozen=True)
class PrefixSource:
    """What is known of the engine's prefix cache.

    Attributes:
        geometry: how it names its blocks and when a prefix hits.
        blocks: how many blocks the engine has.
        events: where it publishes what changes; None when it does not.
    """

    geometry: PrefixGeometry
    blocks: int
    events: EventSource | None = None


@dataclass(frozen=True)
class MoverConfig:
    """Settings of one mover.

    Attributes:
        engine_id: name of the engine in logs and handshakes.
        epoch: random 32-bit number of this start of the engine; fences frames of an earlier one.
        fingerprint: what both engines must agree on.
        listen: "host:port" for control, port 0 takes a free one; None does not listen (no saves, no reports).
        advertise_host: host part of the announced address, when peers reach this one under another name.
        peers: prefill engines ("host:port") dialed at the start and kept connected, so that a mismatch shows then.
        dials: all that may be dialed; a request names one of them, and whoever made it may be a stranger. None: any.
        slot_bytes, send_slots, receive_slots: the staging memory, see ``Staging``.
        data_connections: TCP connections for frames per session, at first; the prefill side's value holds.
        max_connections: how many they may become where more of them move more; the smaller of both sides' holds.
        rate_limits: what is sent no faster; peers that are in none have no limit.
        link_bandwidth_bytes_s: what a link of this engine has, for utilisation alone; 0 when unknown.
        heartbeat_s, lease_s: interval of heartbeats, and the silence after which a peer counts as gone.
        offer_wait_s: how long a peer that opens a transfer waits for this engine to know of it.
        cpus: processors the mover may use; None for all (it is started by a worker that is bound to one).
        data_port: TCP port for frames, 0 takes a free one.
        serves_tcp: whether there is a TCP port for frames at all; peers can always take them over gRPC.
        grpc_peers: those among the addresses to dial whose frames come over gRPC, on the same port, instead of TCP.
        tls: who may talk to whom, and the files that prove it; None for plain text on every connection.
        prefixes: what gateways may follow; None when this engine's hits cannot be told from outside.
        facts: how the engine runs, for whoever looks whether it fits its site.
        logs: how it logs.
        traces: where its spans go; None makes none.
    """

    engine_id: str
    epoch: int
    fingerprint: Fingerprint
    listen: str | None
    advertise_host: str | None
    peers: tuple[str, ...]
    slot_bytes: int
    send_slots: int
    receive_slots: int
    data_connections: int = 2
    heartbeat_s: float = 1.0
    lease_s: float = 10.0
    offer_wait_s: float = 30.0
    cpus: tuple[int, ...] | None = None
    data_port: int = 0
    max_connections: int = 16
    rate_limits: tuple[RateLimit, ...] = ()
    serves_tcp: bool = True
    grpc_peers: tuple[str, ...] = ()
    tls: TlsSettings | None = None
    link_bandwidth_bytes_s: float = 0.0
    dials: tuple[str, ...] | None = None
    prefixes: PrefixSource | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    logs: LogSettings = field(default_factory=LogSettings)
    traces: TraceSettings | None = None


@dataclass(frozen=True)
class MoverLaunch:
    """What the parent hands to the mover's process besides inherited descriptors; sent over its stdin.

    Attributes:
        config: the settings.
        worker_fd: inherited SOCK_SEQPACKET end of the worker's channel.
        staging_fd: inherited staging memory.
        socket_path: where schedulers connect.
        parent_pid: the process whose death ends the mover.
    """

    config: MoverConfig
    worker_fd: int
    staging_fd: int
    socket_path: str
    parent_pid: int
