"""The decode side in the model runner: writes arrived pieces into the request's blocks and vouches for the result.

A load is reported to vLLM exactly once, as done or as failed, and only after the last write: from then on its blocks
may be computed on, or belong to another request. It is done when the mover has verified the manifest *and* the writer
has seen everything that this engine's own layout asks for.

Messages of the mover and orders of the scheduler travel on different sockets. Pieces that arrive before the order to
start wait in their slots; pieces of a transfer that is over give their slots back unwritten.

What has arrived is written by ``write`` alone, once a step and for as long as the step allows: an engine that decodes
must not wait for a burst of pieces. The rest waits in its slots, so the mover's credit bounds what can pile up.
"""

import logging
import math
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from prfaas.clock import Clock
from prfaas.engine.layout import Bytes, CacheLayout
from prfaas.engine.load_writer import LoadWriter
from prfaas.engine.metadata import LoadCancel, LoadStart
from prfaas.errors import TransferFailed
from prfaas.transport.messages import (
    MAX_PIECES_PER_MESSAGE,
    Arrived,
    Cancel,
    FromWorker,
    LoadComplete,
    LoadFailed,
    LoadUsed,
    SlotPiece,
    SlotsDone,
)

logger = logging.getLogger(__name__)

CLOSED_TRANSFERS = 4096
"""Transfers remembered after their end, for messages still under way; far more than can be open at once."""
MOVER_GRACE_S = 5.0
"""The mover ends a late load by itself; only when it hangs does the worker's own, later, deadline strike."""
LAST_WORD_S = 1.0
"""A mover answers a cancel within a millisecond; one that does not is not waited for."""
CANCELLED = "the request was aborted"


@dataclass
class ActiveLoad:
    """One load's progress.

    Attributes:
        writer: where its pieces go.
        pending: pieces that have arrived and are not written; never more than there are receive slots.
        complete: the mover's last word, to be taken once nothing is pending.
        given_up: why nothing is written any more, empty as long as the load goes on.
    """

    start: LoadStart
    writer: LoadWriter
    deadline_s: float
    pending: deque[SlotPiece] = field(default_factory=deque)
    complete: LoadComplete | None = None
    given_up: str = ""


class LoadWorker:
    """Owned by the model runner's thread.

    Args:
        staging: the receive arena, uint8 ``[slots, slot_bytes]``.
        send: hands a message to the mover, never blocks.
    """

    def __init__(
        self, layout: CacheLayout, staging: torch.Tensor, send: Callable[[FromWorker], None], clock: Clock
    ) -> None:
        self._layout = layout
        self._staging: Bytes = staging.numpy()
        self._send = send
        self._clock = clock
        self._loads: dict[str, ActiveLoad] = {}
        self._early: dict[str, list[Arrived | LoadComplete]] = {}
        self._done_slots: list[int] = []
        self._closed: OrderedDict[str, str] = OrderedDict()
        self._done: set[str] = set()
        self._failed: set[str] = set()

    @property
    def is_idle(self) -> bool:
        """Whether no load is under way and no slot is lent to one."""
        return not self._loads and not self._early

    def start(self, start: LoadStart) -> None:
        """The blocks are allocated: from now on pieces are written into them."""
        if start.transfer_id in self._loads:
            self._fail(start.transfer_id, "another request took its transfer over")
            del self._closed[start.transfer_id]
        load = ActiveLoad(start, self._make_writer(start), self._clock.now_s() + start.timeout_s + MOVER_GRACE_S)
        self._loads[start.transfer_id] = load
        if start.transfer_id in self._closed:
            self._fail(start.transfer_id, self._closed[start.transfer_id])
            return
        self._guarded(load, load.writer.prepare)
        for message in self._early.pop(start.transfer_id, ()):
            self.heard(message)

    def _make_writer(self, start: LoadStart) -> LoadWriter:
        return LoadWriter(self._layout, start)

    def cancel(self, cancel: LoadCancel) -> None:
        """The request is gone: no write follows. It is reported once the mover has said its last word on it."""
        load = self._loads.get(cancel.transfer_id)
        if load is None and cancel.transfer_id not in self._closed:
            # Its order to start never came through; vLLM waits for a report all the same, the mover for its slots.
            self._return_early(cancel.transfer_id)
            self._send(Cancel(cancel.transfer_id, CANCELLED))
            self._close(cancel.transfer_id, CANCELLED)
            self._done.add(cancel.request_id)
            self._failed.add(cancel.request_id)
        elif load is not None and load.start.request_id == cancel.request_id:
            self._give_up(load, CANCELLED)

    def _give_up(self, load: ActiveLoad, reason: str) -> None:
        """Stop writing and wait, for a moment, for the pieces that are on their way from the mover."""
        if not load.given_up:
            load.given_up = reason
            load.deadline_s = self._clock.now_s() + LAST_WORD_S
            self._return_pending(load)
            self._send(Cancel(load.start.transfer_id, reason))

    def heard(self, message: Arrived | LoadComplete | LoadFailed) -> None:
        """Take the mover's word on a transfer; nothing is written here."""
        transfer_id = message.transfer_id
        load = self._loads.get(transfer_id)
        if isinstance(message, LoadFailed):
            self._return_early(transfer_id)
            self._fail(transfer_id, load.given_up or message.reason if load else message.reason)
        elif load is None and transfer_id not in self._closed:
            self._early.setdefault(transfer_id, []).append(message)
        elif load is None or load.given_up:
            self._return_slots(message)
            if load is not None and isinstance(message, LoadComplete):
                self._fail(transfer_id, load.given_up)
        elif isinstance(message, LoadComplete):
            load.complete = message
        else:
            load.pending.extend(message.pieces)

    def write(self, budget_s: float = math.inf) -> None:
        """Write what has arrived, older loads first, and end the loads that are complete.

        Args:
            budget_s: no piece is begun after so many seconds, the first one excepted: each call gets on.
        """
        until_s, is_late = self._clock.now_s() + budget_s, False
        for load in list(self._loads.values()):
            while load.pending and not is_late:
                self._write_next(load)
                is_late = self._clock.now_s() >= until_s
            if load.complete is not None and not load.pending:
                self._end(load, load.complete)
        slots, self._done_slots = self._done_slots, []
        for at in range(0, len(slots), MAX_PIECES_PER_MESSAGE):
            self._send(SlotsDone(slots[at : at + MAX_PIECES_PER_MESSAGE]))

    def _write_next(self, load: ActiveLoad) -> None:
        piece = load.pending.popleft()
        self._done_slots.append(piece.slot)
        self._guarded(load, load.writer.write, piece, self._staging[piece.slot, : piece.length])

    def _guarded(self, load: ActiveLoad, act: Callable[..., None], *args: object) -> None:
        """Whatever goes wrong fails this one load: a hook that raises would cost all others their step."""
        try:
            act(*args)
        except Exception as error:  # vLLM dies of one in a hook, so a bug here ends this load as a bad piece does
            if not isinstance(error, TransferFailed):
                logger.exception(
                    "transfer %s: writing the cache failed",
                    load.start.transfer_id,
                    extra={"transfer_id": load.start.transfer_id},
                )
            self._give_up(load, str(error))

    def _return_slots(self, message: Arrived | LoadComplete) -> None:
        if isinstance(message, Arrived):
            self._done_slots += [piece.slot for piece in message.pieces]

    def _return_pending(self, load: ActiveLoad) -> None:
        self._done_slots += [piece.slot for piece in load.pending]
        load.pending.clear()

    def _return_early(self, transfer_id: str) -> None:
        for message in self._early.pop(transfer_id, ()):
            self._return_slots(message)

    def expire(self) -> None:
        """Give up the loads whose deadline has passed without a word from the mover, then end them without it."""
        now_s = self._clock.now_s()
        for load in [load for load in self._loads.values() if load.deadline_s < now_s]:
            if load.given_up:
                self._fail(load.start.transfer_id, load.given_up)
            else:
                self._give_up(load, "the deadline has passed")

    def close_all(self, reason: str) -> None:
        """The mover is gone: every load fails, and so does each one that starts later."""
        self._early.clear()
        for transfer_id in list(self._loads):
            self._fail(transfer_id, reason)

    def take_results(self) -> tuple[set[str], set[str]]:
        """Request ids of loads that ended since the last call: all of them, and those of them that failed."""
        done, self._done = self._done, set()
        failed, self._failed = self._failed, set()
        return done, failed

    def _close(self, transfer_id: str, reason: str) -> ActiveLoad | None:
        self._closed[transfer_id] = reason
        while len(self._closed) > CLOSED_TRANSFERS:
            self._closed.popitem(last=False)
        return self._loads.pop(transfer_id, None)

    def _fail(self, transfer_id: str, reason: str) -> None:
        load = self._close(transfer_id, reason)
        if load is None:
            return
        self._return_pending(load)
        logger.warning("transfer %s is recomputed here: %s", transfer_id, reason, extra={"transfer_id": transfer_id})
        self._send(LoadUsed(transfer_id, ok=False, reason=reason))
        self._done.add(load.start.request_id)
        self._failed.add(load.start.request_id)

    def _end(self, load: ActiveLoad, message: LoadComplete) -> None:
        """Everything has been sent and written: judge it."""
        try:
            self._complete(load, message)
        except Exception as error:  # as above; the mover has said its last word, so there is nothing to wait for
            if not isinstance(error, TransferFailed):
                logger.exception(
                    "transfer %s: checking the cache failed",
                    load.start.transfer_id,
                    extra={"transfer_id": load.start.transfer_id},
                )
            self._fail(load.start.transfer_id, str(error))

    def _complete(self, load: ActiveLoad, message: LoadComplete) -> None:
        start = load.start
        if message.num_tokens != start.num_tokens:
            raise TransferFailed(f"the state stands at {message.num_tokens} tokens instead of {start.num_tokens}")
        load.writer.check()
        self._close(start.transfer_id, "it has ended")
        self._send(LoadUsed(start.transfer_id, ok=True, reason=""))
        self._done.add(start.request_id)
