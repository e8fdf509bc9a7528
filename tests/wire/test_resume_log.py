"""Numbered control batches: what is lost with a stream, and only that, is written again."""

import random

import pytest

from prfaas.errors import RemoteProtocolError, TransferFailed
from prfaas.wire import resume_log
from prfaas.wire.control import ControlMessage, Credit, Done, Heartbeat, decode_batch
from prfaas.wire.resume_log import ResumeLog


def test_every_message_arrives_once_and_in_order_however_streams_break() -> None:
    """Both sides talk over a path that loses the end of what is under way, again and again."""
    chaos = random.Random(1)
    one, two = ResumeLog(), ResumeLog()
    said: dict[ResumeLog, list[ControlMessage]] = {one: [], two: []}
    heard: dict[ResumeLog, list[ControlMessage]] = {one: [], two: []}
    for number in range(500):
        under_way = {one: two.unconfirmed(one.received), two: one.unconfirmed(two.received)}
        for _ in range(chaos.randrange(5)):
            writer, reader = chaos.choice([(one, two), (two, one)])
            said[writer].append(Credit(number))
            under_way[reader].append(writer.next_batch([Credit(number)]))
        for reader, batches in under_way.items():
            for batch in batches[: chaos.randrange(len(batches) + 1)]:
                heard[reader] += reader.receive(batch)
    for reader, writer in ((one, two), (two, one)):
        for batch in writer.unconfirmed(reader.received):
            heard[reader] += reader.receive(batch)
        assert heard[reader] == said[writer]


def test_what_is_confirmed_is_not_kept() -> None:
    """Each batch confirms those of the other direction."""
    one, two = ResumeLog(), ResumeLog()
    for number in range(3):
        two.receive(one.next_batch([Done(number)]))
    one.receive(two.next_batch([Done(9)]))
    assert one._kept_bytes == 0
    assert one.confirmed == 3
    assert one.unconfirmed(3) == []


@pytest.mark.parametrize(("name", "value"), [("MAX_KEPT_BATCHES", 2), ("MAX_KEPT_BYTES", 20)])
def test_a_peer_that_confirms_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch, name: str, value: int) -> None:
    """What is kept for it is bounded, and nothing of it is forgotten."""
    monkeypatch.setattr(resume_log, name, value)
    log = ResumeLog()
    log.next_batch([Done(1)])
    log.next_batch([Done(2)])
    with pytest.raises(TransferFailed, match="2 control batches unconfirmed"):
        log.next_batch([Done(3)])
    assert len(log.unconfirmed(0)) == 2


def test_heartbeats_are_not_written_again() -> None:
    """Their times would say how long the break was; the rest of their batch is."""
    log = ResumeLog()
    log.next_batch([Done(1), Heartbeat(1, 2, 3)])
    (again,) = log.unconfirmed(0)
    assert (again.number, decode_batch(again)) == (1, [Done(1)])


def test_what_the_peer_cannot_mean_is_refused() -> None:
    """Gaps, missing numbers and confirmations of what was never written."""
    log, peer = ResumeLog(), ResumeLog()
    first, second = peer.next_batch([Done(1)]), peer.next_batch([Done(2)])
    with pytest.raises(RemoteProtocolError, match="control batch 2 after 0"):
        log.receive(second)
    first.number = 0
    with pytest.raises(RemoteProtocolError, match="control batch 0 after 0"):
        log.receive(first)
    first.number, first.received = 1, 1
    with pytest.raises(RemoteProtocolError, match="confirms control batch 1 of 0"):
        log.receive(first)
    with pytest.raises(RemoteProtocolError, match="confirms control batch 7 of 0"):
        log.unconfirmed(7)
    peer.unconfirmed(2)
    with pytest.raises(RemoteProtocolError, match="has 1 control batches and has confirmed 2"):
        peer.unconfirmed(1)


def test_a_repeated_batch_is_heard_once() -> None:
    """A peer that writes again what has arrived changes nothing."""
    log, peer = ResumeLog(), ResumeLog()
    first, second = peer.next_batch([Done(1)]), peer.next_batch([Done(2)])
    assert [log.receive(batch) for batch in (first, second, first)] == [[Done(1)], [Done(2)], []]
    assert log.received == 2
