"""Control messages to and from protobuf."""

import pytest

from prfaas.errors import LocalProtocolError, RemoteProtocolError
from prfaas.types import Fingerprint
from prfaas.wire import control
from prfaas.wire import transfer_pb2 as pb
from prfaas.wire.control import MAX_BATCH_MESSAGES, MAX_TEXT, ControlMessage, decode_batch, encode_batch

MESSAGES: list[ControlMessage] = [
    control.Hello((1, 2), "edge", 0xFFFFFFFF, 1 << 20, Fingerprint({"model": "m", "dtype": "bf16"}, ("a", "b"))),
    control.Welcome(1, "cloud", 5, 4242, b"t" * 16),
    control.Refused("model", "m", "n"),
    control.Heartbeat(1, 2, 3),
    control.Open(1, "id", "secret", 30_000),
    control.Open(2, "id", "secret", 30_000, "1f2e"),
    control.Open(3, "id", "secret", 30_000, "", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "vendor=1"),
    control.Accepted(1),
    control.Start(1, 16, 200),
    control.Credit(64),
    control.Ack(2, 1 << 40),
    control.Manifest(1, 200, 3, 1 << 33, 77, (control.Entry(0, 1, 0, 16, 200), control.Entry(1, 2, 0, 0, 4096))),
    control.Done(1),
    control.Abort(1, "because"),
    control.Hangup(2),
    control.Lost(2, 17),
]


def test_every_message_survives_the_wire() -> None:
    """Each kind of message decodes to what was encoded, in order."""
    data = encode_batch(MESSAGES).SerializeToString()
    assert decode_batch(pb.ControlBatch.FromString(data)) == MESSAGES


def test_an_abort_reason_is_cut_to_its_bound() -> None:
    """Our own long reason never makes a message that the peer must refuse."""
    (message,) = decode_batch(encode_batch([control.Abort(1, "x" * 99_999)]))
    assert message == control.Abort(1, "x" * MAX_TEXT)


@pytest.mark.parametrize(
    "message",
    [
        pb.ControlMessage(),
        pb.ControlMessage(open=pb.Open(transfer_id="x" * (MAX_TEXT + 1))),
        pb.ControlMessage(open=pb.Open(tracestate="x" * (MAX_TEXT + 1))),
        pb.ControlMessage(welcome=pb.Welcome(session_token=b"x" * (MAX_TEXT + 1))),
        pb.ControlMessage(hello=pb.Hello(fields=[pb.FingerprintField()] * (control.MAX_FIELDS + 1))),
        pb.ControlMessage(hello=pb.Hello(layers=["x" * (MAX_TEXT + 1)])),
        pb.ControlMessage(manifest=pb.Manifest(entries=[pb.ManifestEntry()] * (control.MAX_ENTRIES + 1))),
    ],
)
def test_messages_beyond_their_bounds_are_refused(message: pb.ControlMessage) -> None:
    """Unknown kinds, long texts and long lists are the peer's error."""
    with pytest.raises(RemoteProtocolError):
        decode_batch(pb.ControlBatch(messages=[message]))


def test_a_refusal_is_cut_to_what_the_peer_takes() -> None:
    """A value too long to send still leaves field and beginning."""
    (refused,) = decode_batch(encode_batch([control.Refused("field", "x" * (MAX_TEXT + 1), "y")]))
    assert refused == control.Refused("field", "x" * MAX_TEXT, "y")


def test_batches_are_bounded_on_both_sides() -> None:
    """Neither side makes or takes more messages at a time than agreed."""
    with pytest.raises(LocalProtocolError):
        encode_batch([control.Done(1)] * (MAX_BATCH_MESSAGES + 1))
    many = [pb.ControlMessage(done=pb.Done(handle=1))] * (MAX_BATCH_MESSAGES + 1)
    with pytest.raises(RemoteProtocolError):
        decode_batch(pb.ControlBatch(messages=many))


def test_the_largest_manifest_fits_the_message_bound() -> None:
    """A manifest with every entry at its largest encoding stays below gRPC's bound."""
    entry = control.Entry((1 << 16) - 1, 2, 255, 1 << 48, 1 << 48)
    manifest = control.Manifest(1, 1, 1, 1, 1, (entry,) * control.MAX_ENTRIES)
    assert encode_batch([manifest]).ByteSize() < control.MAX_MESSAGE_BYTES


def test_a_trace_is_nothing_that_a_peer_has_to_know() -> None:
    """An Open of an older peer has none, and one that says more than we know is read all the same."""
    older = pb.Open(handle=1, transfer_id="id", secret="secret", timeout_ms=30_000)
    assert decode_batch(pb.ControlBatch(messages=[pb.ControlMessage(open=older)])) == [
        control.Open(1, "id", "secret", 30_000)
    ]
    field_15 = bytes([15 << 3 | 2, 3]) + b"new"
    message = pb.ControlMessage(open=pb.Open.FromString(older.SerializeToString() + field_15))
    assert decode_batch(pb.ControlBatch(messages=[message])) == [control.Open(1, "id", "secret", 30_000)]
