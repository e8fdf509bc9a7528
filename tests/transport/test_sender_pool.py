"""Which frame leaves when and on which connection, with streams in memory and a clock moved by hand."""

import asyncio
import socket
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import cast

import pytest

from prfaas.clock import ManualClock
from prfaas.errors import RemoteProtocolError
from prfaas.transport.data_stream import Callback
from prfaas.transport.loads import EngineOut
from prfaas.transport.saves import Saves
from prfaas.transport.sender_pool import SenderPool
from prfaas.transport.settings import RateLimit
from prfaas.transport.staging import Staging
from prfaas.types import Part, Piece
from prfaas.wire.actions import FreeSlots, SaveAction
from prfaas.wire.control import Start
from prfaas.wire.frame import HEADER_BYTES, FrameHeader, decode_header
from prfaas.wire.pace import Pace
from prfaas.wire.save import Save, StagedPiece
from tests.transport.movers import CONFIG

SIZE = 1000
FRAME_BYTES = HEADER_BYTES + SIZE


class FakeStream:
    """Takes as many bytes as it has ``room`` for."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.room = room
        self.taken = bytearray()
        self.has_news = asyncio.Event()
        self.writable: Callback | None = None
        self.is_open = True

    @property
    def socket(self) -> socket.socket | None:
        return None

    def on_readable(self, callback: Callback) -> None:
        pass

    def await_bytes(self, size: int) -> None:
        pass

    def on_writable(self, callback: Callback | None) -> None:
        self.writable = callback

    def read_into(self, buffers: Sequence[memoryview]) -> int:
        raise BlockingIOError

    def write(self, buffers: Sequence[memoryview]) -> int:
        if not self.room:
            raise BlockingIOError
        data = b"".join(buffers)[: self.room]
        self.taken += data
        self.has_news.set()
        self.room -= len(data)
        return len(data)

    def close(self) -> None:
        self.is_open = False

    def make_room(self, size: int) -> None:
        """The network takes so much more; the pool goes on if it waited."""
        self.room = size
        if self.writable:
            self.writable()

    def headers(self) -> list[FrameHeader]:
        """The frames that left entirely."""
        whole = len(self.taken) // FRAME_BYTES
        view = memoryview(bytes(self.taken))
        starts = [i * FRAME_BYTES for i in range(whole)]
        return [decode_header(view[at : at + HEADER_BYTES], SIZE)[0] for at in starts]

    def order(self) -> list[tuple[int, int]]:
        return [(header.handle, header.sequence) for header in self.headers()]


class Sender:
    """A pool with the saves and connections of one session."""

    def __init__(self, **changes: float) -> None:
        self.clock = ManualClock()
        self.memory = memoryview(bytes(SIZE))
        self.freed: list[int] = []
        self.given_up: list[int] = []
        config = replace(CONFIG, **changes)  # type: ignore[arg-type]
        self.pool = SenderPool(config, lambda slot: self.memory, self, lambda n, _: self.given_up.append(n), self.clock)
        self.pool.credit.grant(1 << 20)

    def apply(self, save: Save, actions: Iterable[SaveAction]) -> None:
        for action in actions:
            if isinstance(action, FreeSlots):
                self.freed += action.slots

    def flush(self) -> None:
        pass

    def save(self, handle: int, frames: int) -> Save:
        """A streaming save with so many frames; slots are handle * 1000 + frame."""
        save = Save(f"t{handle}", 99.0)
        save.offer("secret", 99.0)
        save.open(handle)
        save.start(Start(handle, 0, frames))
        save.stage(StagedPiece(Piece(0, Part.KV, 0, i, 1, SIZE), handle * 1000 + i) for i in range(frames))
        self.pool.credit.start(handle)
        self.pool.has_frames(save)
        self.pool.pump()
        return save

    def join(self, *rooms: int) -> list[FakeStream]:
        streams = [FakeStream(room) for room in rooms]
        for number, stream in enumerate(streams, 1):
            assert self.pool.join(stream, number)
        return streams


async def test_a_short_save_takes_turns_with_a_long_one() -> None:
    """However much the long one has queued, the short one's frames leave every second turn."""
    sender = Sender()
    (stream,) = sender.join(FRAME_BYTES)
    sender.save(1, 1000)
    sender.save(2, 3)
    stream.make_room(20 * FRAME_BYTES)
    last = max(at for at, (handle, _) in enumerate(stream.order()) if handle == 2)
    assert last <= 8


async def test_a_full_connection_holds_no_more_than_a_frame_back() -> None:
    """Frames are bound to a connection only when it can take them, so that a later short save can overtake."""
    sender = Sender()
    streams = sender.join(FRAME_BYTES // 2, FRAME_BYTES // 2)
    sender.save(1, 100)
    sender.save(2, 1)
    for stream in streams:
        stream.make_room(3 * FRAME_BYTES)
    assert (2, 0) in [*streams[0].order(), *streams[1].order()]


async def test_what_a_lost_connection_did_not_deliver_leaves_on_the_other_first() -> None:
    """Exactly the frames after the last that arrived, in order, before new ones; delivered ones stay delivered."""
    sender = Sender()
    first, second = sender.join(5 * FRAME_BYTES, 0)
    sender.save(1, 10)
    assert [sequence for _, sequence in first.order()] == [0, 1, 2, 3, 4]
    sender.pool.lost(1, 3)
    assert sorted(sender.freed) == [1000, 1001, 1002]
    second.make_room(1 << 30)
    order = [sequence for _, sequence in second.order()]
    assert sorted(order) == list(range(3, 10))
    assert order.index(3) < order.index(4) < order.index(7)
    assert not first.is_open
    assert not sender.pool.join(FakeStream(), 1)


async def test_a_refused_frame_leaves_again_and_is_not_freed_by_the_ack_that_counts_it() -> None:
    """Its slot stays lent until the copy is acknowledged; refusing it twice is the peer's error."""
    sender = Sender()
    (stream,) = sender.join(1 << 30)
    sender.save(1, 3)
    sender.pool.refused(1, 2)
    with pytest.raises(RemoteProtocolError, match="not on its way"):
        sender.pool.refused(1, 2)
    sender.pool.acknowledged(1, 3)
    assert sorted(sender.freed) == [1000, 1002]
    sender.pool.pump()
    assert [sequence for _, sequence in stream.order()] == [0, 1, 2, 1]
    assert sender.pool.resent_bytes == SIZE
    sender.pool.acknowledged(1, 4)
    assert sorted(sender.freed) == [1000, 1001, 1002]


async def test_resent_frames_take_their_credit_along() -> None:
    """A peer that granted ten frames gets ten, however often connections are lost."""
    sender = Sender()
    sender.pool.credit.frames = 10
    streams = sender.join(1 << 30)
    sender.save(1, 30)
    for number in range(1, 4):
        assert len(streams[-1].order()) == 10
        assert sender.pool.credit.frames == 0
        sender.pool.lost(number, 0)
        assert sender.pool.credit.frames == 10
        streams.append(FakeStream())
        assert sender.pool.join(streams[-1], number + 1)
    assert [sequence for _, sequence in streams[-1].order()] == list(range(10))


async def test_a_surplus_connection_is_given_up_when_everything_on_it_has_arrived() -> None:
    """It takes no more frames and loses none."""
    sender = Sender(data_connections=1)
    first, second = sender.join(2 * FRAME_BYTES, 2 * FRAME_BYTES)
    sender.save(1, 10)
    assert sender.pool.tick(100.0) == 1
    assert sender.given_up == []
    second.make_room(FRAME_BYTES)
    carried = len(second.order())
    sender.pool.acknowledged(2, carried)
    assert sender.given_up == [2]
    first.make_room(1 << 30)
    second.make_room(1 << 30)
    assert len(second.order()) == carried
    assert len(first.order()) + carried == 10


async def test_only_what_arrived_counts_as_moved_when_a_connection_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a session without any connection does not wait for the network: there is none to measure."""
    sender = Sender()
    sender.join(5 * FRAME_BYTES)
    sender.save(1, 10)
    seen: list[tuple[int, bool]] = []

    def observe(now_s: float, moved_bytes: int, rtt_s: float, *, is_network_bound: bool) -> int:
        seen.append((moved_bytes, is_network_bound))
        return 1

    monkeypatch.setattr(sender.pool._count, "observe", observe)
    sender.pool.tick(0.0)
    sender.pool.lost(1, 3)
    sender.pool.tick(0.0)
    assert seen == [(0, True), (3 * SIZE, False)]


async def test_a_configured_rate_holds_back_and_goes_on_by_itself() -> None:
    """Only the burst and one frame leave before time passes; the rest follows without anyone pumping."""
    sender = Sender()
    sender.pool.pace = Pace(100 * SIZE / 0.005, sender.clock.now_s())
    (stream,) = sender.join(1 << 30)
    sender.save(1, 500)
    assert len(stream.order()) == 101
    sender.clock.advance(60)
    async with asyncio.timeout(60):
        while len(stream.order()) < 202:
            stream.has_news.clear()
            await stream.has_news.wait()
    sender.pool.close()


def test_engines_of_one_link_share_its_rate() -> None:
    """What leaves for one of them is missing for the others; an engine of another link has its own, or none."""
    limits = (RateLimit(("edge-0", "edge-1"), 1e6), RateLimit(("far-0",), 1e6))
    saves = Saves(replace(CONFIG, rate_limits=limits), cast(Staging, None), cast(EngineOut, None), ManualClock())
    saves.pace("edge-0").spend(1_000_000)
    waits = [saves.pace(peer).wait_s(0.0) for peer in ("edge-0", "edge-1", "far-0", "unknown")]
    assert [wait_s > 0 for wait_s in waits] == [True, True, False, False]


def test_a_probe_for_whom_no_limit_names_gets_the_smallest_in_its_own_bucket() -> None:
    """The name is its caller's word: neither an unknown one nor none is free, and neither spends what is another's."""
    limits = (RateLimit(("edge-0",), 2e6), RateLimit(("far-0",), 1e6), RateLimit(("free-0",), 0.0))
    saves = Saves(replace(CONFIG, rate_limits=limits), cast(Staging, None), cast(EngineOut, None), ManualClock())
    saves.probe_pace("unknown").spend(1_005_000)
    waits = [saves.probe_pace(peer).wait_s(0.0) for peer in ("", "edge-0", "far-0", "free-0")]
    assert waits == [pytest.approx(1.0), 0, 0, 0]
    assert saves.probe_pace("edge-0") is saves.pace("edge-0")


def test_without_limits_no_probe_is_limited() -> None:
    """Nobody has to be named then."""
    saves = Saves(CONFIG, cast(Staging, None), cast(EngineOut, None), ManualClock())
    assert not saves.probe_pace("unknown").is_limited
