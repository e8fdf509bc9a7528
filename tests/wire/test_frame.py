"""Frames as bytes: encoding, every way of splitting the input, damage and fuzzing."""

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prfaas.errors import LocalProtocolError, RemoteProtocolError
from prfaas.types import Part, Piece
from prfaas.wire.frame import (
    HEADER_BYTES,
    FrameDamaged,
    FrameHeader,
    FrameReader,
    FrameReceived,
    HeaderReceived,
    encode_header,
)

MAX_BYTES = 4096


def frame(sequence: int, payload: bytes, *, layer: int = 3, handle: int = 7) -> tuple[FrameHeader, bytes]:
    header = FrameHeader(handle, 0xDEADBEEF, sequence, 9, Piece(layer, Part.KV, 0, 16 * sequence, 16, len(payload)))
    return header, encode_header(header, memoryview(payload)) + payload


def parse(chunks: Iterable[bytes]) -> list[tuple[FrameHeader, bytes]]:
    """Feed a reader and return the verified frames."""
    return parse_all(chunks)[0]


def parse_all(
    chunks: Iterable[bytes], found: list[tuple[FrameHeader, bytes]] | None = None
) -> tuple[list[tuple[FrameHeader, bytes]], list[FrameHeader]]:
    """Feed a reader and return the verified frames (put into ``found``) and the headers of the damaged ones."""
    reader, memory = FrameReader(MAX_BYTES), memoryview(bytearray())
    found = [] if found is None else found
    damaged: list[FrameHeader] = []
    for chunk in chunks:
        data = memoryview(chunk)
        while data:
            taken = 0
            for target in reader.buffers():
                part = data[taken : taken + len(target)]
                target[: len(part)] = part
                taken += len(part)
            data = data[taken:]
            for event in reader.received(taken):
                match event:
                    case FrameReceived(header):
                        found.append((header, bytes(memory)))
                    case FrameDamaged(header):
                        damaged.append(header)
                    case HeaderReceived(header):
                        memory = memoryview(bytearray(header.piece.length))
                        reader.provide(memory)
    return found, damaged


FRAMES = [frame(0, b"a" * 5), frame(1, bytes(range(256)) * 16), frame(2, b"z")]
STREAM = b"".join(data for _, data in FRAMES)
PAYLOADS = [(header, data[HEADER_BYTES:]) for header, data in FRAMES]


def test_frames_survive_any_split_of_the_stream() -> None:
    """The reader finds the same frames in a stream that comes at once, byte by byte or in any pieces."""
    assert parse([STREAM]) == PAYLOADS
    assert parse(STREAM[i : i + 1] for i in range(len(STREAM))) == PAYLOADS
    for size in (2, 47, 48, 49, 53, 100):
        assert parse(STREAM[i : i + size] for i in range(0, len(STREAM), size)) == PAYLOADS


@pytest.mark.parametrize("bit", [0, 7])
def test_every_flipped_bit_is_noticed(bit: int) -> None:
    """A changed header ends the stream; a changed payload costs its own frame, the next one is found."""
    header, data = FRAMES[0]
    for at in range(len(data)):
        flipped = bytearray(STREAM)
        flipped[at] ^= 1 << bit
        if at < HEADER_BYTES:
            with pytest.raises(RemoteProtocolError):
                parse([bytes(flipped)])
        else:
            assert parse_all([bytes(flipped)]) == (PAYLOADS[1:], [header])


def test_a_frame_before_a_damaged_header_has_arrived() -> None:
    """One read may end a frame and bring a broken header: the frame is reported before the error."""
    flipped = bytearray(STREAM)
    flipped[len(FRAMES[0][1])] ^= 1
    found: list[tuple[FrameHeader, bytes]] = []
    with pytest.raises(RemoteProtocolError):
        parse_all([bytes(flipped)], found)
    assert found == PAYLOADS[:1]


def test_a_payload_does_not_verify_behind_another_header() -> None:
    """The payload's checksum is bound to the transfer, the layer and the range."""
    (_, ours), (_, other_layer), (_, other_transfer) = frame(0, b"x"), frame(0, b"x", layer=4), frame(0, b"x", handle=8)
    assert ours[40:44] != other_layer[40:44]
    assert ours[40:44] != other_transfer[40:44]


@pytest.mark.parametrize("length", [0, MAX_BYTES + 1, 1 << 31, (1 << 32) - 1])
def test_lengths_beyond_the_slot_are_refused_before_any_memory_is_asked_for(length: int) -> None:
    """A header that announces more than a slot holds, or nothing, is an error by itself."""
    from fastcrc.crc32 import iscsi as crc32c

    _, data = frame(0, b"x")
    identity = data[:36] + length.to_bytes(4, "big")
    seed = crc32c(identity)
    forged = identity + data[40:44] + crc32c(data[40:44], seed).to_bytes(4, "big")
    with pytest.raises(RemoteProtocolError, match="bytes, allowed are"):
        parse([forged])


def test_the_reader_asks_for_memory_before_it_takes_a_payload() -> None:
    """Using the reader without providing memory, or with memory of another size, is our own error."""
    reader = FrameReader(MAX_BYTES)
    reader.buffers()[0][:] = FRAMES[0][1][:HEADER_BYTES]
    assert len(list(reader.received(HEADER_BYTES))) == 1
    with pytest.raises(LocalProtocolError):
        reader.buffers()
    with pytest.raises(LocalProtocolError):
        reader.provide(memoryview(bytearray(4)))


def test_a_payload_of_another_length_than_its_piece_is_not_encoded() -> None:
    """A header can only be made for exactly the piece's bytes."""
    header, _ = FRAMES[0]
    with pytest.raises(LocalProtocolError):
        encode_header(header, memoryview(b"four"))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.integers(0, len(STREAM)), st.integers(1, 200))
def test_garbage_only_ever_raises_a_protocol_error(garbage: bytes, at: int, size: int) -> None:
    """Whatever is spliced into a stream, the reader yields good frames or RemoteProtocolError."""
    stream = STREAM[:at] + garbage + STREAM[at:]
    try:
        found = parse(stream[i : i + size] for i in range(0, len(stream), size))
    except RemoteProtocolError:
        return
    assert all(one in PAYLOADS for one in found)
