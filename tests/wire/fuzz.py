"""Coverage-guided fuzzing of the wire protocol, with every rule that must hold whatever a peer does.

    python -m tests.wire.fuzz [--inputs 10000000] [--corpus DIR]

One input is one scenario: a byte stream of frames, whole, damaged or forged, in chunks of any size; a batch of control
messages; the life of a load or a save with a peer that says anything at any time; one whole transfer over a network
that loses, repeats and reorders; or the control batches of a session whose streams break. Nothing but
``RemoteProtocolError`` may come out, no slot may be lost or freed twice, memory is bounded, and a transfer that
completes has every byte.
"""

import argparse
import struct
import sys
from collections.abc import Callable, Iterable
from typing import Any

import atheris
from fastcrc.crc32 import iscsi as crc32c

with atheris.instrument_imports(include=["prfaas.wire"]):
    from google.protobuf.message import DecodeError

    from prfaas.errors import RemoteProtocolError
    from prfaas.types import Part, Piece
    from prfaas.wire import transfer_pb2 as pb
    from prfaas.wire.actions import Close, Complete, FreeSlots, Lend, LoadAction, SaveAction, Send
    from prfaas.wire.control import ControlMessage, Done, Entry, Manifest, Start, decode_batch, encode_batch
    from prfaas.wire.frame import HEADER_BYTES, FrameHeader, FrameReader, HeaderReceived
    from prfaas.wire.load import Load
    from prfaas.wire.resume_log import ResumeLog
    from prfaas.wire.save import OutgoingFrame, Save, StagedPiece
    from prfaas.wire.session import Session

MAX_PAYLOAD = 256
MAX_STEPS = 48
LAYERS = 3
EPOCH = 7
HUGE = ((1 << 16) - 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
_IDENTITY = struct.Struct(">4sBBBBIIIHHQII")

Data = Any
"""``atheris.FuzzedDataProvider``, which has no types."""


def number(data: Data, small: int, bits: int = 64) -> int:
    """Mostly small numbers, now and then one at a limit."""
    if data.ConsumeIntInRange(0, 15):
        return int(data.ConsumeIntInRange(0, small))
    return HUGE[data.ConsumeIntInRange(0, len(HUGE) - 1)] % (1 << bits)


def any_piece(data: Data) -> Piece:
    part = Part.KV if data.ConsumeBool() else Part.STATE
    count = number(data, 16, 32) if part is Part.KV else 0
    return Piece(number(data, LAYERS, 16), part, number(data, 2, 8), number(data, 64), count, number(data, 64, 32))


def any_header(data: Data) -> FrameHeader:
    epoch = number(data, 0, 32) or EPOCH
    return FrameHeader(number(data, 2, 32), epoch, number(data, 8, 32), number(data, 2, 16), any_piece(data))


def forged(data: Data) -> bytes:
    """A frame with checksums that are right, whatever its fields say."""
    h, payload = any_header(data), bytes(data.ConsumeBytes(data.ConsumeIntInRange(0, 40)))
    length = len(payload) if data.ConsumeBool() else h.piece.length
    fields = (h.piece.part, h.piece.index, h.handle, h.epoch, h.sequence, h.piece.layer, h.round)
    identity = _IDENTITY.pack(
        b"PFKV", number(data, 1, 8), number(data, 1, 8), *fields, h.piece.first, h.piece.count, length
    )
    seed = crc32c(identity)
    payload_crc = crc32c(payload, seed).to_bytes(4, "big")
    return identity + payload_crc + crc32c(payload_crc, seed).to_bytes(4, "big") + payload


def frames(data: Data) -> None:
    """A stream of frames and garbage, in chunks of any size."""
    stream = bytearray()
    for _ in range(data.ConsumeIntInRange(0, 6)):
        garbage = data.ConsumeIntInRange(0, 3) == 0
        stream += data.ConsumeBytes(data.ConsumeIntInRange(0, 60)) if garbage else forged(data)
    if stream and data.ConsumeBool():
        stream[data.ConsumeIntInRange(0, len(stream) - 1)] ^= 1 << data.ConsumeIntInRange(0, 7)
    reader, rest = FrameReader(MAX_PAYLOAD), memoryview(stream)
    chunk = data.ConsumeIntInRange(1, 2 * HEADER_BYTES)
    while rest:
        rest = rest[feed(reader, rest[:chunk]) :]


def feed(reader: FrameReader, chunk: memoryview) -> int:
    """Give a reader what it asks for, as far as the chunk goes; return how much it took."""
    taken = 0
    for target in reader.buffers():
        part = chunk[taken : taken + len(target)]
        target[: len(part)] = part
        taken += len(part)
    for event in reader.received(taken):
        if isinstance(event, HeaderReceived):
            assert 0 < event.header.piece.length <= MAX_PAYLOAD
            reader.provide(memoryview(bytearray(event.header.piece.length)))
    return taken


def control(data: Data) -> None:
    """A batch of control messages for either side of a session."""
    session = Session(dialed=data.ConsumeBool(), lease_s=1, heartbeat_s=1, now_s=0)
    try:
        batch = pb.ControlBatch.FromString(data.ConsumeBytes(data.remaining_bytes()))
    except DecodeError:
        return
    for at, message in enumerate(decode_batch(batch)):
        session.receive(message, at * 0.1)
        session.heartbeat_due(at * 0.1)


def load(data: Data) -> None:
    """The decode side of a transfer: each slot is given back once, at once or by the engine, and an end is an end."""
    machine = Load("id", 1, layers=LAYERS, opened_s=0, deadline_s=9)
    machine.open("secret", 1000)
    is_closed = False
    for slot in range(data.ConsumeIntInRange(1, MAX_STEPS)):
        kind = data.ConsumeIntInRange(0, 5)
        actions: Iterable[LoadAction] = ()
        if kind == 0:
            actions = machine.accepted()
        elif kind == 1:
            actions = machine.start(number(data, 20), number(data, 40))
        elif kind == 2:
            actions = machine.manifest(any_manifest(data), 0.0)
        elif kind == 3 and data.ConsumeIntInRange(0, 7) == 0:
            actions = machine.fail("cancelled", tell_peer=data.ConsumeBool())
        else:
            actions = machine.frame(any_header(data), slot, EPOCH, 0.0)
            back = [s for a in actions if isinstance(a, FreeSlots) for s in a.slots]
            lent = [a.slot for a in actions if isinstance(a, Lend)]
            assert back + lent == [slot]
        is_closed = ended_once(actions, is_closed)
        assert is_closed is machine.is_over


def any_manifest(data: Data) -> Manifest:
    entries = tuple(
        Entry(number(data, LAYERS, 32), number(data, 2, 32), number(data, 2, 32), number(data, 64), number(data, 64))
        for _ in range(data.ConsumeIntInRange(0, 4))
    )
    return Manifest(1, number(data, 40), number(data, 4), number(data, 128), number(data, 9), entries)


def ended_once(actions: Iterable[LoadAction] | Iterable[SaveAction], was_closed: bool) -> bool:
    """Whether it is over now; nothing but slots may follow the end, within these actions or after them."""
    for action in actions:
        assert not was_closed or isinstance(action, FreeSlots)
        was_closed = was_closed or isinstance(action, Close)
    return was_closed


class Lender:
    """The prefill engine's slots: each is lent once and comes back once."""

    def __init__(self) -> None:
        self.lent: set[int] = set()
        self._next = 0

    def lend(self, piece: Piece) -> StagedPiece:
        slot, self._next = self._next, self._next + 1
        self.lent.add(slot)
        return StagedPiece(piece, slot)

    def take_back(self, actions: Iterable[SaveAction] | Iterable[LoadAction]) -> None:
        for action in actions:
            if isinstance(action, FreeSlots):
                for slot in action.slots:
                    self.lent.remove(slot)


def save(data: Data) -> None:
    """The prefill side of a transfer: no slot is lost, none comes back while it is being written."""
    machine, lender = Save("id", 9.0), Lender()
    is_closed = False
    written: list[OutgoingFrame] = []
    writing: list[OutgoingFrame] = []
    for _ in range(data.ConsumeIntInRange(1, MAX_STEPS)):
        actions = save_step(data, machine, lender, writing, written)
        lender.take_back(actions)
        assert {frame.slot for frame in writing} <= lender.lent
        is_closed = ended_once(actions, is_closed)
        assert is_closed is machine.is_over
    lender.take_back(machine.fail("over"))
    for frame in writing:
        lender.take_back(machine.written(frame.slot))
    assert not lender.lent


def save_step(
    data: Data, machine: Save, lender: Lender, writing: list[OutgoingFrame], written: list[OutgoingFrame]
) -> list[SaveAction]:
    """Something that the engine, the socket or the peer does."""
    kind = data.ConsumeIntInRange(0, 9)
    if kind == 0:
        return machine.offer("secret", 9.0)
    if kind == 1 and data.ConsumeIntInRange(0, 1):
        return machine.open(1)
    if kind == 2:
        return machine.start(Start(1, number(data, 20), number(data, 40)))
    if kind == 3 and data.ConsumeIntInRange(0, 3) == 0:
        return machine.end(number(data, 40), 0)
    if kind == 4 and data.ConsumeIntInRange(0, 3) == 0:
        return machine.done()
    if kind == 5 and written:
        frame = written.pop(data.ConsumeIntInRange(0, len(written) - 1))
        return machine.resend(frame) if data.ConsumeBool() else machine.acknowledged(frame.slot)
    if kind == 6 and writing:
        frame = writing.pop(data.ConsumeIntInRange(0, len(writing) - 1))
        written.append(frame)
        return machine.written(frame.slot)
    if kind >= 7 and machine.has_frames:
        writing.append(machine.next_frame())
        return []
    return machine.stage([lender.lend(any_piece(data))])


def transfer(data: Data) -> None:
    """Both sides and an unreliable network between them: it completes with every piece, or it fails."""
    sender, receiver, lender = Save("id", 9.0), Load("id", 1, layers=LAYERS, opened_s=0, deadline_s=9), Lender()
    held = data.ConsumeIntInRange(0, 2) * 4
    pieces = [Piece(layer, Part.KV, 0, 4 * at, 4, 8) for layer in range(LAYERS) for at in range(4)]
    pieces += [Piece(layer, Part.STATE, 0, 0, 0, 24) for layer in range(LAYERS)]
    receiver.open("secret", 1000)
    receiver.accepted()
    receiver.start(held, 16)
    for actions in (sender.offer("secret", 9.0), sender.open(1), sender.start(Start(1, held, 16))):
        lender.take_back(actions)
    for piece in pieces:
        lender.take_back(sender.stage([lender.lend(piece)]))
    (manifest,) = [a.message for a in sender.end(16, 0) if isinstance(a, Send)]
    heard: list[LoadAction] = []
    while sender.has_frames:
        frame = sender.next_frame()
        lender.take_back(sender.written(frame.slot))
        fate = data.ConsumeIntInRange(0, 9)
        if fate == 0:
            lender.take_back(sender.resend(frame))
            continue
        header = FrameHeader(1, EPOCH, frame.sequence, 0, frame.piece)
        for _ in range(2 if fate == 1 else 1):
            heard += receiver.frame(header, frame.slot, EPOCH, 0.0)
        if data.ConsumeIntInRange(0, 7) == 0 and manifest is not None:
            assert isinstance(manifest, Manifest)
            heard += receiver.manifest(manifest, 0.0)
            manifest = None  # type: ignore[assignment]
        lender.take_back(sender.acknowledged(frame.slot))
    if isinstance(manifest, Manifest):
        heard += receiver.manifest(manifest, 0.0)
    arrived = {action.piece for action in heard if isinstance(action, Lend)}
    if any(isinstance(action, Complete) for action in heard):
        assert arrived == {p for p in pieces if p.part is Part.STATE or p.first >= held}
        lender.take_back(sender.done())
    else:
        lender.take_back(sender.fail("incomplete"))
    assert sender.is_over
    assert not lender.lent


def resume(data: Data) -> None:
    """Two sides of a session whose streams break at any time: what is heard is what was said, once and in order."""
    logs = (ResumeLog(), ResumeLog())
    said: tuple[list[Done], list[Done]] = ([], [])
    heard: tuple[list[ControlMessage], list[ControlMessage]] = ([], [])
    under_way: list[list[pb.ControlBatch]] = [[], []]
    for step in range(data.ConsumeIntInRange(1, MAX_STEPS)):
        writer = data.ConsumeIntInRange(0, 1)
        kind = data.ConsumeIntInRange(0, 3)
        if kind == 0:
            said[writer].append(Done(step))
            under_way[writer].append(logs[writer].next_batch([Done(step)]))
        elif kind == 1:
            under_way = [logs[side].unconfirmed(logs[1 - side].received) for side in (0, 1)]
        elif under_way[writer]:
            heard[writer].extend(logs[1 - writer].receive(under_way[writer].pop(0)))
        assert heard[writer] == said[writer][: len(heard[writer])]
    logs[0].receive(encode_batch([Done(0)], number(data, 8), number(data, 8)))


SCENARIOS: tuple[Callable[[Data], None], ...] = (frames, control, load, save, transfer, resume)


def one_input(raw: bytes) -> None:
    """What the fuzzer calls."""
    data = atheris.FuzzedDataProvider(raw)
    try:
        SCENARIOS[data.ConsumeIntInRange(0, len(SCENARIOS) - 1)](data)
    except RemoteProtocolError:
        return


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.wire.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=10_000_000)
    parser.add_argument("--corpus", default="", help="a folder that keeps what was interesting")
    args = parser.parse_args()
    # The kernel counts the memory of the process that started this one as well: that of a test run has over a GiB.
    bounds = ["-rss_limit_mb=4096", "-malloc_limit_mb=64", "-max_len=512", "-timeout=10", "-print_final_stats=1"]
    corpus = [args.corpus] if args.corpus else []
    atheris.Setup([sys.argv[0], f"-atheris_runs={args.inputs}", *bounds, *corpus], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
