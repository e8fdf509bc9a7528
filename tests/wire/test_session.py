"""Handshake, liveness and clocks of a session."""

from dataclasses import replace

import pytest

from prfaas.errors import RemoteProtocolError
from prfaas.types import Fingerprint
from prfaas.wire.control import (
    MAX_TEXT,
    Ack,
    Credit,
    Heartbeat,
    Manifest,
    Refused,
    Welcome,
    decode_batch,
    encode_batch,
)
from prfaas.wire.session import VERSIONS, Identity, Session, SessionState, answer, hello, refusal_text

US = Identity("cloud", 1, 4096, Fingerprint({"model": "m", "dtype": "bf16"}, ("a",)))


def session(*, dialed: bool) -> Session:
    return Session(dialed=dialed, lease_s=10.0, heartbeat_s=1.0, now_s=0.0)


def pair() -> tuple[Session, Session]:
    decode, prefill = session(dialed=True), session(dialed=False)
    prefill.receive(hello(US), 0.0)
    decode.receive(Welcome(1, "cloud", 1, 80, b""), 0.0)
    return decode, prefill


def test_equal_engines_are_welcome() -> None:
    """The answer carries the highest common version, the data port and the token."""
    greeting = replace(hello(US), versions=(*VERSIONS, 99))
    assert answer(US, greeting, 4242, b"token") == Welcome(max(VERSIONS), "cloud", 1, 4242, b"token")


def test_a_mismatch_names_the_field_and_both_values() -> None:
    """The operator reads what to change, on both sides."""
    other = replace(US, fingerprint=Fingerprint({"model": "m", "dtype": "fp8"}, ("a",)))
    refused = answer(US, hello(other), 1, b"")
    assert refused == Refused("dtype", "bf16", "fp8")
    text = refusal_text(refused)
    assert all(word in text for word in ("dtype", "'bf16'", "'fp8'"))


def test_another_layer_is_named_however_many_there_are() -> None:
    """The first that differs, with its number; a refusal always fits what the other side takes."""
    names = tuple(f"model.layers.{i}.attn" for i in range(1000))
    us = replace(US, fingerprint=Fingerprint({}, names))
    for other, (ours, theirs) in {
        (*names[:7], "x"): (names[7], "x"),
        names[:7]: (names[7], "(absent)"),
        (*names, "more"): ("(absent)", "more"),
        ("x" * MAX_TEXT, *names): (names[0], "x" * MAX_TEXT),
    }.items():
        refused = answer(us, hello(replace(US, fingerprint=Fingerprint({}, other))), 1, b"")
        assert isinstance(refused, Refused)
        assert refused.field.startswith("layer ")
        assert (refused.ours, refused.theirs) == (ours, theirs)
        assert decode_batch(encode_batch([refused])) == [refused]


def test_a_version_that_was_not_offered_is_the_peers_error() -> None:
    """What it would mean is unknown here."""
    with pytest.raises(RemoteProtocolError, match="version 99"):
        session(dialed=True).receive(Welcome(99, "cloud", 1, 80, b""), 0.0)


def test_version_and_slot_size_are_checked() -> None:
    """No common version, or slots into which our frames do not fit, is a refusal."""
    assert answer(US, replace(hello(US), versions=(99,)), 1, b"") == Refused("protocol version", "1", "99")
    refused = answer(US, replace(hello(US), slot_bytes=2048), 1, b"")
    assert isinstance(refused, Refused)
    assert refused.ours == "4096"
    assert isinstance(answer(US, replace(hello(US), slot_bytes=8192), 1, b""), Welcome)


def test_each_side_may_only_say_what_is_its_own() -> None:
    """A message out of turn or of the wrong side is the peer's error."""
    decode, prefill = session(dialed=True), session(dialed=False)
    with pytest.raises(RemoteProtocolError):
        decode.receive(Heartbeat(1, 0, 0), 0.0)
    with pytest.raises(RemoteProtocolError):
        prefill.receive(Credit(1), 0.0)
    decode, prefill = pair()
    with pytest.raises(RemoteProtocolError):
        decode.receive(Ack(1, 1), 0.0)
    with pytest.raises(RemoteProtocolError):
        prefill.receive(Manifest(1, 1, 1, 1, 1, ()), 0.0)
    with pytest.raises(RemoteProtocolError):
        prefill.receive(hello(US), 0.0)


def test_a_closed_session_takes_nothing() -> None:
    """After close every message is an error."""
    decode, _ = pair()
    decode.close()
    assert decode.state is SessionState.CLOSED
    with pytest.raises(RemoteProtocolError):
        decode.receive(Heartbeat(1, 0, 0), 0.0)


def test_silence_beyond_the_lease_expires_the_session() -> None:
    """Any message renews the lease."""
    decode, _ = pair()
    assert not decode.is_expired(10.0)
    assert decode.is_expired(10.1)
    decode.receive(Heartbeat(1, 0, 0), 10.0)
    assert not decode.is_expired(20.0)


def test_heartbeats_are_due_once_per_interval_and_the_first_is_answered_at_once() -> None:
    """So the peer can estimate our clock before its first transfer ends."""
    decode, prefill = pair()
    assert decode.heartbeat_due(0.0) is not None
    assert decode.heartbeat_due(0.5) is None
    assert prefill.heartbeat_due(0.0) is not None
    prefill.receive(Heartbeat(1, 0, 0), 0.1)
    assert prefill.heartbeat_due(0.1) is not None
    prefill.receive(Heartbeat(2, 0, 0), 0.2)
    assert prefill.heartbeat_due(0.2) is None


def test_the_clock_offset_comes_from_the_shortest_round_trip() -> None:
    """With a peer whose clock is 100 s ahead and one slow round trip, the estimate stays at 100 s."""
    decode, _ = pair()
    for sent_s, there_s, back_s in ((1.0, 0.01, 0.01), (2.0, 0.01, 0.5), (3.0, 0.02, 0.02)):
        peer_ns = round((sent_s + there_s + 0.2 + 100.0) * 1e9)
        beat = Heartbeat(peer_ns, round(sent_s * 1e9), round(0.2 * 1e9))
        decode.receive(beat, sent_s + there_s + 0.2 + back_s)
    assert decode.clock_offset_s == pytest.approx(100.0, abs=1e-6)
    assert decode.rtt_s == pytest.approx(0.02, abs=1e-6)
