from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ControlBatch(_message.Message):
    __slots__ = ("messages", "number", "received")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[ControlMessage]
    number: int
    received: int
    def __init__(self, messages: _Optional[_Iterable[_Union[ControlMessage, _Mapping]]] = ..., number: _Optional[int] = ..., received: _Optional[int] = ...) -> None: ...

class ControlMessage(_message.Message):
    __slots__ = ("hello", "welcome", "refused", "heartbeat", "open", "accepted", "start", "credit", "ack", "manifest", "done", "abort", "hangup", "lost", "nack", "connections", "resume", "resumed", "bye")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    ABORT_FIELD_NUMBER: _ClassVar[int]
    HANGUP_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    NACK_FIELD_NUMBER: _ClassVar[int]
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    RESUMED_FIELD_NUMBER: _ClassVar[int]
    BYE_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    welcome: Welcome
    refused: Refused
    heartbeat: Heartbeat
    open: Open
    accepted: Accepted
    start: Start
    credit: Credit
    ack: Ack
    manifest: Manifest
    done: Done
    abort: Abort
    hangup: Hangup
    lost: Lost
    nack: Nack
    connections: Connections
    resume: Resume
    resumed: Resumed
    bye: Bye
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., welcome: _Optional[_Union[Welcome, _Mapping]] = ..., refused: _Optional[_Union[Refused, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., open: _Optional[_Union[Open, _Mapping]] = ..., accepted: _Optional[_Union[Accepted, _Mapping]] = ..., start: _Optional[_Union[Start, _Mapping]] = ..., credit: _Optional[_Union[Credit, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., manifest: _Optional[_Union[Manifest, _Mapping]] = ..., done: _Optional[_Union[Done, _Mapping]] = ..., abort: _Optional[_Union[Abort, _Mapping]] = ..., hangup: _Optional[_Union[Hangup, _Mapping]] = ..., lost: _Optional[_Union[Lost, _Mapping]] = ..., nack: _Optional[_Union[Nack, _Mapping]] = ..., connections: _Optional[_Union[Connections, _Mapping]] = ..., resume: _Optional[_Union[Resume, _Mapping]] = ..., resumed: _Optional[_Union[Resumed, _Mapping]] = ..., bye: _Optional[_Union[Bye, _Mapping]] = ...) -> None: ...

class FingerprintField(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("versions", "engine_id", "epoch", "slot_bytes", "fields", "layers")
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    ENGINE_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SLOT_BYTES_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedScalarFieldContainer[int]
    engine_id: str
    epoch: int
    slot_bytes: int
    fields: _containers.RepeatedCompositeFieldContainer[FingerprintField]
    layers: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, versions: _Optional[_Iterable[int]] = ..., engine_id: _Optional[str] = ..., epoch: _Optional[int] = ..., slot_bytes: _Optional[int] = ..., fields: _Optional[_Iterable[_Union[FingerprintField, _Mapping]]] = ..., layers: _Optional[_Iterable[str]] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("version", "engine_id", "epoch", "data_port", "session_token")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ENGINE_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    DATA_PORT_FIELD_NUMBER: _ClassVar[int]
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    version: int
    engine_id: str
    epoch: int
    data_port: int
    session_token: bytes
    def __init__(self, version: _Optional[int] = ..., engine_id: _Optional[str] = ..., epoch: _Optional[int] = ..., data_port: _Optional[int] = ..., session_token: _Optional[bytes] = ...) -> None: ...

class Refused(_message.Message):
    __slots__ = ("field", "ours", "theirs")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    OURS_FIELD_NUMBER: _ClassVar[int]
    THEIRS_FIELD_NUMBER: _ClassVar[int]
    field: str
    ours: str
    theirs: str
    def __init__(self, field: _Optional[str] = ..., ours: _Optional[str] = ..., theirs: _Optional[str] = ...) -> None: ...

class Resume(_message.Message):
    __slots__ = ("session_token", "received")
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    session_token: bytes
    received: int
    def __init__(self, session_token: _Optional[bytes] = ..., received: _Optional[int] = ...) -> None: ...

class Resumed(_message.Message):
    __slots__ = ("received",)
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    received: int
    def __init__(self, received: _Optional[int] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("sent_ns", "echo_ns", "hold_ns")
    SENT_NS_FIELD_NUMBER: _ClassVar[int]
    ECHO_NS_FIELD_NUMBER: _ClassVar[int]
    HOLD_NS_FIELD_NUMBER: _ClassVar[int]
    sent_ns: int
    echo_ns: int
    hold_ns: int
    def __init__(self, sent_ns: _Optional[int] = ..., echo_ns: _Optional[int] = ..., hold_ns: _Optional[int] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ("handle", "transfer_id", "secret", "timeout_ms", "adapter", "traceparent", "tracestate")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_ID_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    TRACESTATE_FIELD_NUMBER: _ClassVar[int]
    handle: int
    transfer_id: str
    secret: str
    timeout_ms: int
    adapter: str
    traceparent: str
    tracestate: str
    def __init__(self, handle: _Optional[int] = ..., transfer_id: _Optional[str] = ..., secret: _Optional[str] = ..., timeout_ms: _Optional[int] = ..., adapter: _Optional[str] = ..., traceparent: _Optional[str] = ..., tracestate: _Optional[str] = ...) -> None: ...

class Accepted(_message.Message):
    __slots__ = ("handle",)
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    handle: int
    def __init__(self, handle: _Optional[int] = ...) -> None: ...

class Start(_message.Message):
    __slots__ = ("handle", "held_tokens", "num_tokens")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    HELD_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_TOKENS_FIELD_NUMBER: _ClassVar[int]
    handle: int
    held_tokens: int
    num_tokens: int
    def __init__(self, handle: _Optional[int] = ..., held_tokens: _Optional[int] = ..., num_tokens: _Optional[int] = ...) -> None: ...

class Credit(_message.Message):
    __slots__ = ("frames",)
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    frames: int
    def __init__(self, frames: _Optional[int] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("connection", "frames")
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    connection: int
    frames: int
    def __init__(self, connection: _Optional[int] = ..., frames: _Optional[int] = ...) -> None: ...

class ManifestEntry(_message.Message):
    __slots__ = ("layer", "part", "index", "first", "end")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    layer: int
    part: int
    index: int
    first: int
    end: int
    def __init__(self, layer: _Optional[int] = ..., part: _Optional[int] = ..., index: _Optional[int] = ..., first: _Optional[int] = ..., end: _Optional[int] = ...) -> None: ...

class Manifest(_message.Message):
    __slots__ = ("handle", "num_tokens", "frames", "payload_bytes", "prefill_end_ns", "entries")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    NUM_TOKENS_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    PREFILL_END_NS_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    handle: int
    num_tokens: int
    frames: int
    payload_bytes: int
    prefill_end_ns: int
    entries: _containers.RepeatedCompositeFieldContainer[ManifestEntry]
    def __init__(self, handle: _Optional[int] = ..., num_tokens: _Optional[int] = ..., frames: _Optional[int] = ..., payload_bytes: _Optional[int] = ..., prefill_end_ns: _Optional[int] = ..., entries: _Optional[_Iterable[_Union[ManifestEntry, _Mapping]]] = ...) -> None: ...

class Done(_message.Message):
    __slots__ = ("handle",)
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    handle: int
    def __init__(self, handle: _Optional[int] = ...) -> None: ...

class Abort(_message.Message):
    __slots__ = ("handle", "reason")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    handle: int
    reason: str
    def __init__(self, handle: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Hangup(_message.Message):
    __slots__ = ("connection",)
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    connection: int
    def __init__(self, connection: _Optional[int] = ...) -> None: ...

class Lost(_message.Message):
    __slots__ = ("connection", "frames")
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    connection: int
    frames: int
    def __init__(self, connection: _Optional[int] = ..., frames: _Optional[int] = ...) -> None: ...

class Nack(_message.Message):
    __slots__ = ("connection", "frame")
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    connection: int
    frame: int
    def __init__(self, connection: _Optional[int] = ..., frame: _Optional[int] = ...) -> None: ...

class Connections(_message.Message):
    __slots__ = ("count",)
    COUNT_FIELD_NUMBER: _ClassVar[int]
    count: int
    def __init__(self, count: _Optional[int] = ...) -> None: ...

class Bye(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReportRequest(_message.Message):
    __slots__ = ("transfer_id", "secret", "timeout_ms")
    TRANSFER_ID_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    transfer_id: str
    secret: str
    timeout_ms: int
    def __init__(self, transfer_id: _Optional[str] = ..., secret: _Optional[str] = ..., timeout_ms: _Optional[int] = ...) -> None: ...

class ReportReply(_message.Message):
    __slots__ = ("transfer_id", "ok", "reason", "tokens", "held_tokens", "cache_bytes", "early_bytes", "open_s", "prefilled_s", "first_s", "last_s", "used_s")
    TRANSFER_ID_FIELD_NUMBER: _ClassVar[int]
    OK_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    HELD_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHE_BYTES_FIELD_NUMBER: _ClassVar[int]
    EARLY_BYTES_FIELD_NUMBER: _ClassVar[int]
    OPEN_S_FIELD_NUMBER: _ClassVar[int]
    PREFILLED_S_FIELD_NUMBER: _ClassVar[int]
    FIRST_S_FIELD_NUMBER: _ClassVar[int]
    LAST_S_FIELD_NUMBER: _ClassVar[int]
    USED_S_FIELD_NUMBER: _ClassVar[int]
    transfer_id: str
    ok: bool
    reason: str
    tokens: int
    held_tokens: int
    cache_bytes: int
    early_bytes: int
    open_s: float
    prefilled_s: float
    first_s: float
    last_s: float
    used_s: float
    def __init__(self, transfer_id: _Optional[str] = ..., ok: _Optional[bool] = ..., reason: _Optional[str] = ..., tokens: _Optional[int] = ..., held_tokens: _Optional[int] = ..., cache_bytes: _Optional[int] = ..., early_bytes: _Optional[int] = ..., open_s: _Optional[float] = ..., prefilled_s: _Optional[float] = ..., first_s: _Optional[float] = ..., last_s: _Optional[float] = ..., used_s: _Optional[float] = ...) -> None: ...

class StatisticsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatisticsReply(_message.Message):
    __slots__ = ("open_loads", "open_saves", "lent_send_slots", "lent_receive_slots", "dialed_sessions", "accepted_sessions", "sent_bytes", "received_bytes", "completed_loads", "failed_loads", "completed_saves", "failed_saves", "resent_bytes", "links", "dropped_spans")
    OPEN_LOADS_FIELD_NUMBER: _ClassVar[int]
    OPEN_SAVES_FIELD_NUMBER: _ClassVar[int]
    LENT_SEND_SLOTS_FIELD_NUMBER: _ClassVar[int]
    LENT_RECEIVE_SLOTS_FIELD_NUMBER: _ClassVar[int]
    DIALED_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    SENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_LOADS_FIELD_NUMBER: _ClassVar[int]
    FAILED_LOADS_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_SAVES_FIELD_NUMBER: _ClassVar[int]
    FAILED_SAVES_FIELD_NUMBER: _ClassVar[int]
    RESENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    LINKS_FIELD_NUMBER: _ClassVar[int]
    DROPPED_SPANS_FIELD_NUMBER: _ClassVar[int]
    open_loads: int
    open_saves: int
    lent_send_slots: int
    lent_receive_slots: int
    dialed_sessions: int
    accepted_sessions: int
    sent_bytes: int
    received_bytes: int
    completed_loads: int
    failed_loads: int
    completed_saves: int
    failed_saves: int
    resent_bytes: int
    links: _containers.RepeatedCompositeFieldContainer[LinkStatistics]
    dropped_spans: int
    def __init__(self, open_loads: _Optional[int] = ..., open_saves: _Optional[int] = ..., lent_send_slots: _Optional[int] = ..., lent_receive_slots: _Optional[int] = ..., dialed_sessions: _Optional[int] = ..., accepted_sessions: _Optional[int] = ..., sent_bytes: _Optional[int] = ..., received_bytes: _Optional[int] = ..., completed_loads: _Optional[int] = ..., failed_loads: _Optional[int] = ..., completed_saves: _Optional[int] = ..., failed_saves: _Optional[int] = ..., resent_bytes: _Optional[int] = ..., links: _Optional[_Iterable[_Union[LinkStatistics, _Mapping]]] = ..., dropped_spans: _Optional[int] = ...) -> None: ...

class LinkStatistics(_message.Message):
    __slots__ = ("peer", "is_sending", "connections", "delivered_bytes", "resent_bytes", "goodput_bytes_s", "bandwidth_bytes_s", "utilisation", "rtt_s", "min_rtt_s", "retransmitted_segments", "retransmit_rate", "in_flight_bytes", "queued_bytes", "active_s", "credit_stall_s", "is_congested")
    PEER_FIELD_NUMBER: _ClassVar[int]
    IS_SENDING_FIELD_NUMBER: _ClassVar[int]
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_BYTES_FIELD_NUMBER: _ClassVar[int]
    RESENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    GOODPUT_BYTES_S_FIELD_NUMBER: _ClassVar[int]
    BANDWIDTH_BYTES_S_FIELD_NUMBER: _ClassVar[int]
    UTILISATION_FIELD_NUMBER: _ClassVar[int]
    RTT_S_FIELD_NUMBER: _ClassVar[int]
    MIN_RTT_S_FIELD_NUMBER: _ClassVar[int]
    RETRANSMITTED_SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    RETRANSMIT_RATE_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_BYTES_FIELD_NUMBER: _ClassVar[int]
    QUEUED_BYTES_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_S_FIELD_NUMBER: _ClassVar[int]
    CREDIT_STALL_S_FIELD_NUMBER: _ClassVar[int]
    IS_CONGESTED_FIELD_NUMBER: _ClassVar[int]
    peer: str
    is_sending: bool
    connections: int
    delivered_bytes: int
    resent_bytes: int
    goodput_bytes_s: float
    bandwidth_bytes_s: float
    utilisation: float
    rtt_s: float
    min_rtt_s: float
    retransmitted_segments: int
    retransmit_rate: float
    in_flight_bytes: int
    queued_bytes: int
    active_s: float
    credit_stall_s: float
    is_congested: bool
    def __init__(self, peer: _Optional[str] = ..., is_sending: _Optional[bool] = ..., connections: _Optional[int] = ..., delivered_bytes: _Optional[int] = ..., resent_bytes: _Optional[int] = ..., goodput_bytes_s: _Optional[float] = ..., bandwidth_bytes_s: _Optional[float] = ..., utilisation: _Optional[float] = ..., rtt_s: _Optional[float] = ..., min_rtt_s: _Optional[float] = ..., retransmitted_segments: _Optional[int] = ..., retransmit_rate: _Optional[float] = ..., in_flight_bytes: _Optional[int] = ..., queued_bytes: _Optional[int] = ..., active_s: _Optional[float] = ..., credit_stall_s: _Optional[float] = ..., is_congested: _Optional[bool] = ...) -> None: ...

class PrefixesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PrefixUpdate(_message.Message):
    __slots__ = ("geometry", "blocks", "is_reset", "is_exact", "changes", "counts")
    GEOMETRY_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    IS_RESET_FIELD_NUMBER: _ClassVar[int]
    IS_EXACT_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    geometry: PrefixGeometry
    blocks: int
    is_reset: bool
    is_exact: bool
    changes: _containers.RepeatedCompositeFieldContainer[PrefixChange]
    counts: FeedCounts
    def __init__(self, geometry: _Optional[_Union[PrefixGeometry, _Mapping]] = ..., blocks: _Optional[int] = ..., is_reset: _Optional[bool] = ..., is_exact: _Optional[bool] = ..., changes: _Optional[_Iterable[_Union[PrefixChange, _Mapping]]] = ..., counts: _Optional[_Union[FeedCounts, _Mapping]] = ...) -> None: ...

class FeedCounts(_message.Message):
    __slots__ = ("gaps", "garbage", "losses")
    GAPS_FIELD_NUMBER: _ClassVar[int]
    GARBAGE_FIELD_NUMBER: _ClassVar[int]
    LOSSES_FIELD_NUMBER: _ClassVar[int]
    gaps: int
    garbage: int
    losses: int
    def __init__(self, gaps: _Optional[int] = ..., garbage: _Optional[int] = ..., losses: _Optional[int] = ...) -> None: ...

class PrefixGeometry(_message.Message):
    __slots__ = ("hash_tokens", "align_tokens", "root", "groups")
    HASH_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ALIGN_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    hash_tokens: int
    align_tokens: int
    root: bytes
    groups: _containers.RepeatedCompositeFieldContainer[CacheGroup]
    def __init__(self, hash_tokens: _Optional[int] = ..., align_tokens: _Optional[int] = ..., root: _Optional[bytes] = ..., groups: _Optional[_Iterable[_Union[CacheGroup, _Mapping]]] = ...) -> None: ...

class CacheGroup(_message.Message):
    __slots__ = ("index", "kind", "block_tokens", "window_blocks")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    BLOCK_TOKENS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    index: int
    kind: str
    block_tokens: int
    window_blocks: int
    def __init__(self, index: _Optional[int] = ..., kind: _Optional[str] = ..., block_tokens: _Optional[int] = ..., window_blocks: _Optional[int] = ...) -> None: ...

class PrefixChange(_message.Message):
    __slots__ = ("group", "is_stored", "hashes")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    IS_STORED_FIELD_NUMBER: _ClassVar[int]
    HASHES_FIELD_NUMBER: _ClassVar[int]
    group: int
    is_stored: bool
    hashes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, group: _Optional[int] = ..., is_stored: _Optional[bool] = ..., hashes: _Optional[_Iterable[int]] = ...) -> None: ...

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Description(_message.Message):
    __slots__ = ("engine_id", "epoch", "versions", "slot_bytes", "data_port", "fields", "layers", "facts", "unix_ns")
    ENGINE_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    SLOT_BYTES_FIELD_NUMBER: _ClassVar[int]
    DATA_PORT_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    engine_id: str
    epoch: int
    versions: _containers.RepeatedScalarFieldContainer[int]
    slot_bytes: int
    data_port: int
    fields: _containers.RepeatedCompositeFieldContainer[FingerprintField]
    layers: _containers.RepeatedScalarFieldContainer[str]
    facts: _containers.RepeatedCompositeFieldContainer[FingerprintField]
    unix_ns: int
    def __init__(self, engine_id: _Optional[str] = ..., epoch: _Optional[int] = ..., versions: _Optional[_Iterable[int]] = ..., slot_bytes: _Optional[int] = ..., data_port: _Optional[int] = ..., fields: _Optional[_Iterable[_Union[FingerprintField, _Mapping]]] = ..., layers: _Optional[_Iterable[str]] = ..., facts: _Optional[_Iterable[_Union[FingerprintField, _Mapping]]] = ..., unix_ns: _Optional[int] = ...) -> None: ...

class ProbeRequest(_message.Message):
    __slots__ = ("size_bytes", "duration_ms", "connections", "engine_id")
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    ENGINE_ID_FIELD_NUMBER: _ClassVar[int]
    size_bytes: int
    duration_ms: int
    connections: int
    engine_id: str
    def __init__(self, size_bytes: _Optional[int] = ..., duration_ms: _Optional[int] = ..., connections: _Optional[int] = ..., engine_id: _Optional[str] = ...) -> None: ...

class ProbeReply(_message.Message):
    __slots__ = ("token", "data_port", "sent_bytes", "sent_segments", "retransmitted_segments")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    DATA_PORT_FIELD_NUMBER: _ClassVar[int]
    SENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    SENT_SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    RETRANSMITTED_SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    token: bytes
    data_port: int
    sent_bytes: int
    sent_segments: int
    retransmitted_segments: int
    def __init__(self, token: _Optional[bytes] = ..., data_port: _Optional[int] = ..., sent_bytes: _Optional[int] = ..., sent_segments: _Optional[int] = ..., retransmitted_segments: _Optional[int] = ...) -> None: ...
