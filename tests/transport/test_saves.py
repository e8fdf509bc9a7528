"""The prefill side's saves against an engine whose messages cross a real socket."""

import socket
from dataclasses import replace
from typing import cast

from prfaas.clock import ManualClock
from prfaas.transport.channel import EngineChannel, MoverChannel
from prfaas.transport.messages import (
    MAX_PIECES_PER_MESSAGE,
    Cancel,
    SlotPiece,
    SlotsFree,
    Staged,
    ToScheduler,
    ToWorker,
)
from prfaas.transport.saves import Saves
from prfaas.transport.staging import Staging
from prfaas.types import Part
from tests.transport.movers import CONFIG


class Engine:
    """Both ends of the worker's socket."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._mover, self._worker = MoverChannel(ours), EngineChannel(theirs)

    def to_worker(self, message: ToWorker) -> None:
        self._mover.send(message)

    def to_schedulers(self, message: ToScheduler) -> None:
        pass

    def freed(self) -> list[int]:
        """All slots that the worker has got back."""
        heard = self._worker.poll()
        while self._mover.has_queued:
            self._mover.flush()
            heard += self._worker.poll()
        self._mover.close()
        self._worker.close()
        return [slot for message in heard if isinstance(message, SlotsFree) for slot in message.slots]


def test_every_slot_comes_home_however_many_are_freed_at_once() -> None:
    """The end of a transfer that holds 65,536 slots gives all of them back, in messages that a datagram holds."""
    slots, engine = 65_536, Engine()
    saves = Saves(replace(CONFIG, send_slots=slots), cast(Staging, None), engine, ManualClock())
    for first in range(0, slots, MAX_PIECES_PER_MESSAGE):
        pieces = [SlotPiece(0, Part.KV, 0, at, 1, 100, at) for at in range(first, first + MAX_PIECES_PER_MESSAGE)]
        saves.stage(Staged("long", pieces))
    saves.cancel(Cancel("long", "the client left"))
    assert sorted(engine.freed()) == list(range(slots))
