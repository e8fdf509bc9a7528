"""The control messages as frozen values, and their bounded conversion to and from protobuf.

Field names equal those in ``transfer.proto``, so one table serves both directions. Whatever a peer sends is
bounded here, before it reaches a state machine.
"""

from dataclasses import dataclass, fields
from typing import Any, get_args

from prfaas.errors import LocalProtocolError, RemoteProtocolError
from prfaas.types import Fingerprint
from prfaas.wire import transfer_pb2 as pb

MAX_MESSAGE_BYTES = 4 << 20
"""Bound of one control batch: a manifest of ``MAX_ENTRIES`` ranges at its largest encoding, with room to spare."""
MAX_BATCH_MESSAGES = 256
"""Messages of one batch: bounds the work that one batch causes before other sessions get their turn."""
MAX_ENTRIES = 65_536
"""Ranges in a manifest: 200 layers with 300 tensors and gaps each, far beyond any model known."""
MAX_LAYERS = 65_536
"""The frame header names a layer with 16 bits."""
MAX_FIELDS = 256
"""Fields of a fingerprint; today's have about 30."""
MAX_TEXT = 4_096
"""Characters of any text: ids, secrets, reasons and fingerprint values are all shorter."""


@dataclass(frozen=True, slots=True)
class Hello:
    """Decode side: who dials, and what both must agree on."""

    versions: tuple[int, ...]
    engine_id: str
    epoch: int
    slot_bytes: int
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True)
class Welcome:
    """Prefill side: the session is open; join data connections at ``data_port`` with ``session_token``."""

    version: int
    engine_id: str
    epoch: int
    data_port: int
    session_token: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """Prefill side: no session, because ``field`` differs (``ours`` is the prefill side's value)."""

    field: str
    ours: str
    theirs: str


@dataclass(frozen=True, slots=True)
class Resume:
    """Decode side, instead of ``Hello``: the session of ``session_token`` goes on with this stream; ``received`` is how
    many batches have arrived."""

    session_token: bytes
    received: int


@dataclass(frozen=True, slots=True)
class Resumed:
    """Prefill side: it does; ``received`` is how many batches of the decode side have arrived."""

    received: int


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Either side: alive; carries the times for the clock-offset estimate."""

    sent_ns: int
    echo_ns: int
    hold_ns: int


@dataclass(frozen=True, slots=True)
class Open:
    """Decode side: a transfer, numbered ``handle`` from now on; ``adapter`` is the digest of the LoRA adapter that the
    request is computed with, empty for none. ``traceparent`` and ``tracestate`` are the load's place in a trace, which
    changes nothing."""

    handle: int
    transfer_id: str
    secret: str
    timeout_ms: int
    adapter: str = ""
    traceparent: str = ""
    tracestate: str = ""


@dataclass(frozen=True, slots=True)
class Accepted:
    """Prefill side: the engine has this request."""

    handle: int


@dataclass(frozen=True, slots=True)
class Start:
    """Decode side: frames may flow; attention rows below ``held_tokens`` are not wanted."""

    handle: int
    held_tokens: int
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Credit:
    """Decode side: ``frames`` more may be sent in this session."""

    frames: int


@dataclass(frozen=True, slots=True)
class Ack:
    """Decode side: ``frames`` of this data connection have been received since it began, all but those of a ``Nack``
    verified."""

    connection: int
    frames: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A gapless range of one tensor: tokens for attention rows, bytes for recurrent state."""

    layer: int
    part: int
    index: int
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """Prefill side: all that the transfer consists of."""

    handle: int
    num_tokens: int
    frames: int
    payload_bytes: int
    prefill_end_ns: int
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """Decode side: the manifest is verified."""

    handle: int


@dataclass(frozen=True, slots=True)
class Abort:
    """Either side: the transfer is over. The prefill side's is answered, so both agree on what has started."""

    handle: int
    reason: str


@dataclass(frozen=True, slots=True)
class Hangup:
    """Prefill side: this data connection is of no more use; answered with ``Lost``."""

    connection: int


@dataclass(frozen=True, slots=True)
class Lost:
    """Decode side: this data connection is gone after ``frames`` frames; those of a ``Nack`` count."""

    connection: int
    frames: int


@dataclass(frozen=True, slots=True)
class Nack:
    """Decode side: frame number ``frame`` of this data connection, from 1, came with a wrong payload; send it again."""

    connection: int
    frame: int


@dataclass(frozen=True, slots=True)
class Connections:
    """Prefill side: ``count`` data connections would be best."""

    count: int


@dataclass(frozen=True, slots=True)
class Bye:
    """Decode side: the session is over; it will not be resumed."""


ControlMessage = (
    Hello
    | Welcome
    | Refused
    | Resume
    | Resumed
    | Heartbeat
    | Open
    | Accepted
    | Start
    | Credit
    | Ack
    | Manifest
    | Done
    | Abort
    | Hangup
    | Lost
    | Nack
    | Connections
    | Bye
)

_CLASSES: dict[str, type[ControlMessage]] = {cls.__name__.lower(): cls for cls in get_args(ControlMessage)}
_FIELDS = {c: tuple(f.name for f in fields(c)) for c in _CLASSES.values()}


def encode_batch(messages: list[ControlMessage], number: int = 0, received: int = 0) -> pb.ControlBatch:
    """Put up to ``MAX_BATCH_MESSAGES`` messages, in order, into one batch; ``number`` 0 is that of a handshake."""
    if len(messages) > MAX_BATCH_MESSAGES:
        raise LocalProtocolError(f"{len(messages)} messages in one batch, allowed are {MAX_BATCH_MESSAGES}")
    return pb.ControlBatch(messages=[_encode(message) for message in messages], number=number, received=received)


def decode_batch(batch: pb.ControlBatch) -> list[ControlMessage]:
    """Return the messages of a batch in order.

    Raises:
        RemoteProtocolError: an unknown message, or one beyond the bounds of this module.
    """
    if len(batch.messages) > MAX_BATCH_MESSAGES:
        raise RemoteProtocolError(f"{len(batch.messages)} messages in one batch, allowed are {MAX_BATCH_MESSAGES}")
    return [_decode(message) for message in batch.messages]


def _encode(message: ControlMessage) -> pb.ControlMessage:
    kind = type(message).__name__.lower()
    values: dict[str, Any] = {name: getattr(message, name) for name in _FIELDS[type(message)]}
    if isinstance(message, Hello):
        fingerprint = values.pop("fingerprint")
        values["fields"] = [pb.FingerprintField(name=n, value=v) for n, v in fingerprint.fields.items()]
        values["layers"] = fingerprint.layers
    elif isinstance(message, Manifest):
        values["entries"] = [
            pb.ManifestEntry(layer=entry.layer, part=entry.part, index=entry.index, first=entry.first, end=entry.end)
            for entry in message.entries
        ]
    elif isinstance(message, Abort):
        values["reason"] = message.reason[:MAX_TEXT]
    elif isinstance(message, Refused):
        values = {name: value[:MAX_TEXT] for name, value in values.items()}
    return pb.ControlMessage(**{kind: values})


def _decode(message: pb.ControlMessage) -> ControlMessage:
    kind = message.WhichOneof("kind")
    if kind is None:
        raise RemoteProtocolError("control message of a kind that this version does not know")
    body = getattr(message, kind)
    if kind == "hello":
        return _decode_hello(body)
    if kind == "manifest":
        return _decode_manifest(body)
    cls = _CLASSES[kind]
    values = [_bounded(kind, name, getattr(body, name)) for name in _FIELDS[cls]]
    return cls(*values)


def _decode_hello(hello: pb.Hello) -> Hello:
    if len(hello.fields) > MAX_FIELDS or len(hello.layers) > MAX_LAYERS or len(hello.versions) > MAX_FIELDS:
        raise RemoteProtocolError(f"hello with {len(hello.fields)} fields, {len(hello.layers)} layers")
    named = {_bounded("hello", "name", f.name): _bounded("hello", "value", f.value) for f in hello.fields}
    layers = tuple(_bounded("hello", "layer", name) for name in hello.layers)
    engine_id = _bounded("hello", "engine_id", hello.engine_id)
    return Hello(tuple(hello.versions), engine_id, hello.epoch, hello.slot_bytes, Fingerprint(named, layers))


def _decode_manifest(m: pb.Manifest) -> Manifest:
    if len(m.entries) > MAX_ENTRIES:
        raise RemoteProtocolError(f"manifest with {len(m.entries)} entries, allowed are {MAX_ENTRIES}")
    entries = tuple(Entry(e.layer, e.part, e.index, e.first, e.end) for e in m.entries)
    return Manifest(m.handle, m.num_tokens, m.frames, m.payload_bytes, m.prefill_end_ns, entries)


def _bounded(kind: str, name: str, value: Any) -> Any:
    if isinstance(value, str | bytes) and len(value) > MAX_TEXT:
        raise RemoteProtocolError(f"{kind}.{name} with {len(value)} characters, allowed are {MAX_TEXT}")
    return value
