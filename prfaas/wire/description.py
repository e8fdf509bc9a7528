"""What a mover says of its engine when it is asked, bounded on the way in."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prfaas.errors import RemoteProtocolError
from prfaas.types import Fingerprint
from prfaas.wire import transfer_pb2 as pb
from prfaas.wire.control import MAX_FIELDS, MAX_LAYERS, MAX_TEXT


@dataclass(frozen=True)
class Description:
    """One engine, at one moment.

    Attributes:
        engine_id, epoch, versions, slot_bytes, fingerprint: as in its handshakes.
        data_port: TCP port for frames, 0 where they come over gRPC alone.
        facts: how the engine runs, by name: settings that need not agree with a peer's.
        unix_ns: the time by its machine's clock.
    """

    engine_id: str
    epoch: int
    versions: tuple[int, ...]
    slot_bytes: int
    data_port: int
    fingerprint: Fingerprint
    facts: Mapping[str, str] = field(default_factory=dict)
    unix_ns: int = 0


def encode_description(description: Description) -> pb.Description:
    """As protobuf."""
    return pb.Description(
        engine_id=description.engine_id,
        epoch=description.epoch,
        versions=description.versions,
        slot_bytes=description.slot_bytes,
        data_port=description.data_port,
        fields=_encode(description.fingerprint.fields),
        layers=description.fingerprint.layers,
        facts=_encode(description.facts),
        unix_ns=description.unix_ns,
    )


def decode_description(message: pb.Description) -> Description:
    """Raises RemoteProtocolError for what no mover of ours says."""
    if len(message.layers) > MAX_LAYERS or len(message.versions) > MAX_FIELDS:
        raise RemoteProtocolError(f"a description with {len(message.layers)} layers, {len(message.versions)} versions")
    return Description(
        engine_id=_bounded(message.engine_id),
        epoch=message.epoch,
        versions=tuple(message.versions),
        slot_bytes=message.slot_bytes,
        data_port=message.data_port,
        fingerprint=Fingerprint(_decode(message.fields), tuple(map(_bounded, message.layers))),
        facts=_decode(message.facts),
        unix_ns=message.unix_ns,
    )


def _encode(values: Mapping[str, str]) -> list[pb.FingerprintField]:
    return [pb.FingerprintField(name=name, value=value) for name, value in values.items()]


def _decode(fields: Iterable[pb.FingerprintField]) -> dict[str, str]:
    values = {_bounded(each.name): _bounded(each.value) for each in fields}
    if len(values) > MAX_FIELDS:
        raise RemoteProtocolError(f"a description with {len(values)} fields, allowed are {MAX_FIELDS}")
    return values


def _bounded(text: str) -> str:
    if len(text) > MAX_TEXT:
        raise RemoteProtocolError(f"a description with a text of {len(text)} characters, allowed are {MAX_TEXT}")
    return text
