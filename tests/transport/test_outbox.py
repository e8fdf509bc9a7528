"""Control messages on their way out."""

import asyncio
import mmap
from typing import cast

import pytest

from prfaas.clock import ManualClock
from prfaas.errors import TransferFailed
from prfaas.transport import outbox as outbox_module
from prfaas.transport.dialed_session import DialedSession, LoadOwner
from prfaas.transport.loads import EngineOut
from prfaas.transport.outbox import MAX_POSTED_MESSAGES, Outbox
from prfaas.transport.receive_arena import ReceiveArena
from prfaas.transport.saves import MAX_WAITING_SESSIONS, Saves
from prfaas.transport.staging import Staging
from prfaas.wire import transfer_pb2 as pb
from prfaas.wire.control import MAX_BATCH_MESSAGES, Ack, ControlMessage, Credit, Done, Manifest, decode_batch
from prfaas.wire.resume_log import ResumeLog
from prfaas.wire.session import Session
from tests.transport.movers import CONFIG

MANIFEST = Manifest(1, 1, 1, 1, 1, ())


def test_batches_are_bounded_and_end_with_a_manifest() -> None:
    """Order is kept; a large message is never joined by another."""
    outbox = Outbox(ResumeLog())
    posted: list[ControlMessage] = [Done(1), MANIFEST, MANIFEST, *[Done(2)] * MAX_BATCH_MESSAGES, Done(3)]
    for message in posted:
        outbox.post(message)
    batches = [outbox.take() for _ in range(5)]
    assert [len(batch) for batch in batches] == [
        2,
        1,
        MAX_POSTED_MESSAGES,
        MAX_BATCH_MESSAGES - MAX_POSTED_MESSAGES + 1,
        0,
    ]
    assert [message for batch in batches for message in batch] == posted


async def test_what_is_posted_while_the_stream_is_busy_goes_out_together() -> None:
    """One write for many messages, with the newest ack at the end: it must not overtake a nack."""
    news = [Ack(1, 5)]
    written: list[list[ControlMessage]] = []
    is_writing, is_free, is_over = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def write(batch: pb.ControlBatch) -> None:
        written.append(decode_batch(batch))
        (is_over if is_writing.is_set() else is_writing).set()
        await is_free.wait()

    outbox = Outbox(ResumeLog(), lambda: [news.pop()] if news else [])
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        task = tasks.create_task(outbox.run(write))
        outbox.post(Done(1))
        await is_writing.wait()
        outbox.post(Credit(1))
        outbox.post(Credit(2))
        is_free.set()
        await is_over.wait()
        task.cancel()
    assert written == [[Done(1), Ack(1, 5)], [Credit(1), Credit(2)]]


async def test_acks_that_come_up_meanwhile_wait_for_their_turn() -> None:
    """A busy stream does not carry one ack after the other: the next leaves with the next wake."""
    acks = [Ack(1, frames) for frames in (3, 2, 1)]
    written: list[list[ControlMessage]] = []
    has_written = asyncio.Event()

    async def write(batch: pb.ControlBatch) -> None:
        written.append(decode_batch(batch))
        has_written.set()

    outbox = Outbox(ResumeLog(), lambda: [acks.pop()])
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        task = tasks.create_task(outbox.run(write))
        for _ in range(2):
            outbox.wake()
            await has_written.wait()
            has_written.clear()
        task.cancel()
    assert written == [[Ack(1, 1)], [Ack(1, 2)]]


async def test_a_peer_that_does_not_read_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue is bounded, and both sides' sessions notice while a write to the peer does not return."""
    monkeypatch.setattr(outbox_module, "MAX_QUEUED_MESSAGES", 3)
    staging = Staging.create(slot_bytes=mmap.PAGESIZE, send_slots=1, receive_slots=1)
    protocol = Session(dialed=True, lease_s=1.0, heartbeat_s=1.0, now_s=0.0)
    dialed = DialedSession(CONFIG, ReceiveArena(staging), cast(LoadOwner, None), protocol, ManualClock())
    accepted = Saves(CONFIG, staging, cast(EngineOut, None), ManualClock()).accept(b"token", "host")
    for session in (dialed, accepted):
        is_writing = asyncio.Event()

        async def write(batch: pb.ControlBatch, is_writing: asyncio.Event = is_writing) -> None:
            is_writing.set()
            await asyncio.Event().wait()

        writing = asyncio.create_task(session.outbox.run(write))
        session.tick(0.0)  # what a first look posts leaves with the first batch
        session.outbox.post(Done(1))
        await is_writing.wait()
        for _ in range(3):
            session.outbox.post(Done(1))
            session.tick(0.0)
        session.outbox.post(Done(1))
        with pytest.raises(TransferFailed, match="3 control messages unread"):
            session.tick(0.0)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
    staging.close()


async def test_what_a_broken_stream_may_have_lost_goes_out_again() -> None:
    """A batch counts as lost until it is confirmed, even one whose write was cut off; order and numbers stay."""
    log = ResumeLog()
    outbox = Outbox(log)
    written: list[tuple[int, list[ControlMessage]]] = []
    has_written = asyncio.Event()

    async def write(batch: pb.ControlBatch) -> None:
        written.append((batch.number, decode_batch(batch)))
        has_written.set()
        if len(written) == 2:
            await asyncio.Event().wait()

    async def write_until_two(received: int) -> None:
        del written[:]
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            task = tasks.create_task(outbox.run(write, received))
            while len(written) < 2:
                outbox.post(Done(len(written)))
                has_written.clear()
                await has_written.wait()
            task.cancel()

    await write_until_two(0)
    assert written == [(1, [Done(0)]), (2, [Done(1)])]
    await write_until_two(1)
    assert written[0] == (2, [Done(1)])
    assert written[1][0] == 3


async def test_who_makes_too_many_waiting_sessions_loses_its_own() -> None:
    """The oldest waiting session of another host stays."""
    staging = Staging.create(slot_bytes=mmap.PAGESIZE, send_slots=1, receive_slots=1)
    saves = Saves(CONFIG, staging, cast(EngineOut, None), ManualClock())
    saves.accept(b"honest", "a")
    for number in range(MAX_WAITING_SESSIONS + 10):
        saves.accept(b"%d" % number, "b")
    assert [session.token for session in saves.sessions[:2]] == [b"honest", b"11"]
    assert len(saves.sessions) == MAX_WAITING_SESSIONS
    staging.close()
