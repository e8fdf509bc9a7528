"""Message sockets between engine and mover."""

import socket
from collections.abc import Iterator

import pytest

from prfaas.transport import channel as channel_module
from prfaas.transport.channel import EngineChannel, MoverChannel
from prfaas.transport.messages import (
    MAX_PIECES_PER_MESSAGE,
    Arrived,
    Cancel,
    FromEngine,
    LoadUsed,
    SlotPiece,
    SlotsDone,
    SlotsFree,
    Staged,
)

BIG = (1 << 48) - 1


@pytest.fixture
def ends() -> Iterator[tuple[EngineChannel, MoverChannel]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    engine, mover = EngineChannel(ours), MoverChannel(theirs)
    yield engine, mover
    engine.close()
    mover.close()


def test_messages_arrive_whole_and_in_order(ends: tuple[EngineChannel, MoverChannel]) -> None:
    """Both directions keep order and message boundaries."""
    engine, mover = ends
    sent: list[FromEngine] = [Cancel("t", "x"), SlotsDone([1, 2]), LoadUsed("t", True, "")]
    for message in sent:
        engine.send(message)
    assert mover.poll() == sent
    mover.send(SlotsFree([3]))
    assert engine.poll() == [SlotsFree([3])]
    assert engine.poll() == []


def test_the_largest_allowed_messages_fit_a_datagram(ends: tuple[EngineChannel, MoverChannel]) -> None:
    """A full Staged or Arrived with the largest numbers crosses in one piece."""
    engine, mover = ends
    pieces = [SlotPiece(65535, 2, 255, BIG, BIG, BIG, BIG)] * MAX_PIECES_PER_MESSAGE
    engine.send(Staged("t" * 200, pieces))
    assert mover.poll() == [Staged("t" * 200, pieces)]
    mover.send(Arrived("t", pieces))
    assert engine.poll() == [Arrived("t", pieces)]


def test_a_full_socket_queues_and_loses_nothing(ends: tuple[EngineChannel, MoverChannel]) -> None:
    """Sending never blocks; what did not fit goes out with the next send or poll, in order."""
    engine, mover = ends
    for number in range(5000):
        engine.send(SlotsDone([number]))
    assert engine.has_queued
    heard: list[object] = []
    while len(heard) < 5000:
        heard += mover.poll()
        engine.poll()
    assert heard == [SlotsDone([number]) for number in range(5000)]
    assert not engine.has_queued


def test_a_reader_that_never_reads_is_given_up(
    ends: tuple[EngineChannel, MoverChannel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue is bounded: beyond it the channel closes with a reason."""
    monkeypatch.setattr(channel_module, "MAX_QUEUED_MESSAGES", 10)
    engine, _ = ends
    for number in range(5000):
        engine.send(SlotsDone([number]))
    assert not engine.is_open
    assert "10 messages unread" in engine.error


def test_the_other_ends_death_closes_and_silences(ends: tuple[EngineChannel, MoverChannel]) -> None:
    """After EOF ``is_open`` is False, sends are dropped and polls are empty; nothing raises."""
    engine, mover = ends
    mover.send(SlotsFree([1]))
    mover.close()
    assert engine.poll() == [SlotsFree([1])]
    assert not engine.is_open
    engine.send(SlotsDone([1]))
    assert engine.poll() == []
    assert engine.fileno() == -1


def test_unreadable_bytes_close_the_channel() -> None:
    """A message of another version ends the connection with a reason instead of an exception."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        theirs.send(b"\x93garbage")
        engine = EngineChannel(ours)
        assert engine.poll() == []
        assert "unreadable" in engine.error


def test_a_message_beyond_the_bound_is_our_own_error(ends: tuple[EngineChannel, MoverChannel]) -> None:
    """It would not fit the socket's buffer, ever."""
    with pytest.raises(ValueError, match="Cancel of"):
        ends[0].send(Cancel("t", "x" * channel_module.MAX_MESSAGE_BYTES))
