"""Data frames: a 48-byte header, then one piece of cache bytes.

    0  magic "PFKV"     4  version u8     5  type u8      6  part u8      7  index u8
    8  handle u32      12  epoch u32     16  sequence u32
   20  layer u16       22  round u16     24  first u64    32  count u32   36  length u32
   40  payload crc32c u32               44  header crc32c u32             48  payload

All integers are big-endian. The payload's checksum starts from the checksum of header bytes 0..40, so a payload that
ends up behind another header (another transfer, layer or range) does not verify. The header's checksum covers bytes
0..44.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from fastcrc.crc32 import iscsi as crc32c

from prfaas.errors import LocalProtocolError, RemoteProtocolError
from prfaas.types import Part, Piece

MAGIC = b"PFKV"
VERSION = 1
TYPE_DATA = 1
HEADER_BYTES = 48
MAX_LAYER, MAX_INDEX, MAX_FIRST = (1 << 16) - 1, (1 << 8) - 1, (1 << 48) - 1
"""What header fields hold; ``first`` stays far below 64 bits so that no sum with a length can overflow a peer's."""

_IDENTITY = struct.Struct(">4sBBBBIIIHHQII")
_CRC = struct.Struct(">I")
_HEADER = struct.Struct(_IDENTITY.format + "II")
_PARTS = {int(part): part for part in Part}


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """What a frame says about its payload.

    Attributes:
        handle: the transfer's number in this session, chosen by the decode side.
        epoch: the prefill side's start number; another one means that it restarted.
        sequence: the frame's number in its transfer, from 0, without gaps.
        round: the credit round the frame was paid from (see ``credit.py``), modulo 65,536.
        piece: where the payload belongs.
    """

    handle: int
    epoch: int
    sequence: int
    round: int
    piece: Piece


def piece_objection(piece: Piece, max_payload_bytes: int) -> str:
    """Why a piece cannot be framed; empty when it can."""
    if not 0 < piece.length <= max_payload_bytes:
        return f"piece of {piece.length} bytes, allowed are 1 to {max_payload_bytes}"
    if (piece.count == 0) == (piece.part == Part.KV):
        return f"piece of part {piece.part.name} with a token count of {piece.count}"
    if not (0 <= piece.layer <= MAX_LAYER and 0 <= piece.index <= MAX_INDEX and 0 <= piece.first <= MAX_FIRST):
        return f"piece of layer {piece.layer}, index {piece.index}, first {piece.first}: a frame cannot name that"
    return ""


def encode_header(header: FrameHeader, payload: memoryview) -> bytes:
    """Return the 48 header bytes for ``payload``, whose length must be ``header.piece.length``."""
    piece = header.piece
    if len(payload) != piece.length:
        raise LocalProtocolError(f"the piece says {piece.length} bytes, its payload has {len(payload)}")
    identity = _IDENTITY.pack(
        MAGIC, VERSION, TYPE_DATA, piece.part, piece.index, header.handle, header.epoch, header.sequence,
        piece.layer, header.round, piece.first, piece.count, piece.length,
    )  # fmt: skip
    seed = crc32c(identity)
    payload_crc = _CRC.pack(crc32c(payload, seed))
    return identity + payload_crc + _CRC.pack(crc32c(payload_crc, seed))


def decode_header(data: memoryview, max_payload_bytes: int) -> tuple[FrameHeader, int, int]:
    """Return the header in ``data`` (48 bytes), the seed of its payload's checksum and what that must come to.

    Raises:
        RemoteProtocolError: damaged, of another protocol, or longer than ``max_payload_bytes``.
    """
    fields = _HEADER.unpack(data)
    magic, version, kind, part, index, handle, epoch, sequence, layer, round_, first, count, length, *checksums = fields
    payload_crc, crc = checksums
    if magic != MAGIC:
        raise RemoteProtocolError("the data stream does not carry prfaas frames here (wrong magic)")
    seed = crc32c(data[:40])
    if crc != crc32c(data[40:44], seed):
        raise RemoteProtocolError("frame header with a wrong checksum")
    if version != VERSION or kind != TYPE_DATA or part not in _PARTS:
        raise RemoteProtocolError(f"unknown frame: version {version}, type {kind}, part {part}")
    piece = Piece(layer, _PARTS[part], index, first, count, length)
    if objection := piece_objection(piece, max_payload_bytes):
        raise RemoteProtocolError(objection)
    return FrameHeader(handle, epoch, sequence, round_, piece), seed, payload_crc


@dataclass(frozen=True, slots=True)
class HeaderReceived:
    """A frame begins; its owner must ``provide`` memory for ``header.piece.length`` bytes."""

    header: FrameHeader


@dataclass(frozen=True, slots=True)
class FrameReceived:
    """The payload lies in the provided memory and its checksum is right."""

    header: FrameHeader


@dataclass(frozen=True, slots=True)
class FrameDamaged:
    """The payload is complete and wrong. The header's own checksum was right, so the stream is still in step."""

    header: FrameHeader


FrameEvent = HeaderReceived | FrameReceived | FrameDamaged


class FrameReader:
    """Turns a byte stream into frames, whose payloads land directly in memory that the owner provides.

    Usage: read into ``buffers()`` in order (one scatter read fills the rest of a payload and the next header), tell
    ``received()`` how much came, answer each ``HeaderReceived`` with ``provide()``. After an error it is unusable.
    """

    def __init__(self, max_payload_bytes: int) -> None:
        self._max_payload_bytes = max_payload_bytes
        self._head = memoryview(bytearray(HEADER_BYTES))
        self._head_filled = 0
        self._header: FrameHeader | None = None
        self._seed = self._payload_crc = 0
        self._payload: memoryview | None = None
        self._rest: memoryview | None = None

    @property
    def current(self) -> FrameHeader | None:
        """The frame whose payload has memory and is not complete, if there is one."""
        return None if self._payload is None else self._header

    @property
    def missing_bytes(self) -> int:
        """How many bytes more complete the payload, or else the header."""
        return HEADER_BYTES - self._head_filled if self._rest is None else len(self._rest)

    def buffers(self) -> list[memoryview]:
        """Where the next bytes of the stream must go, in this order; never empty."""
        if self._header is None:
            return [self._head[self._head_filled :]]
        if self._rest is None:
            raise LocalProtocolError("no memory was provided for the payload of the current frame")
        return [self._rest, self._head]

    def provide(self, destination: memoryview) -> None:
        """Lend the memory for the current payload: writable, ``header.piece.length`` bytes, until its end."""
        if self._header is None or len(destination) != self._header.piece.length:
            raise LocalProtocolError("memory provided without a frame, or of another length")
        self._payload = self._rest = destination

    def received(self, size: int) -> Iterator[FrameEvent]:
        """Account for ``size`` bytes written to ``buffers()``; to be iterated to its end.

        Yields:
            At most one ``FrameReceived`` or ``FrameDamaged`` and, after it, one ``HeaderReceived``.

        Raises:
            RemoteProtocolError: a header is damaged: where the next frame begins is unknown.
        """
        if self._header is not None:
            size, event = self._fill_payload(size)
            if event is not None:
                # Before the next header is looked at: when that one is damaged, this frame has still arrived.
                yield event
        if self._header is None and size:
            self._head_filled += size
            if self._head_filled == HEADER_BYTES:
                self._head_filled = 0
                self._header, self._seed, self._payload_crc = decode_header(self._head, self._max_payload_bytes)
                yield HeaderReceived(self._header)

    def _fill_payload(self, size: int) -> tuple[int, FrameEvent | None]:
        """Count ``size`` bytes towards the payload; return how many belong to the next header, and whether it ended."""
        if self._header is None or self._payload is None or self._rest is None:
            raise LocalProtocolError("bytes received before memory was provided for them")
        taken = min(size, len(self._rest))
        self._rest = self._rest[taken:]
        event: FrameEvent | None = None
        if not self._rest:
            is_intact = crc32c(self._payload, self._seed) == self._payload_crc
            event = FrameReceived(self._header) if is_intact else FrameDamaged(self._header)
            self._header = self._payload = self._rest = None
        return size - taken, event
