"""The prefill side in the model runner: copies finished rows and states into staging while the prefill goes on.

Rows of an attention layer are final as soon as its operator has run, those of a cached prefix included: vLLM hands out
cached blocks while another request of the same step still computes them. Recurrent states are final only after the
last chunk. No hook runs at recurrent layers, so the states below an attention layer go with that layer and the rest at
the end of the step. What finds no free slot stays where it is and is tried again at the next hook: the engine never
waits.

Rows of a request are read only in a step that computes it, or after the engine has finished it (its blocks are kept
until ``take_finished`` names it). In between vLLM may preempt the request and give its blocks away; what was copied
before stays valid, and the copying goes on where it stopped once the tokens are computed again.

Slots of a transfer that the other side has not started come back late: it may be waiting for blocks. Such transfers
together leave half of the slots alone, so that one that has started always gets on. One that has started may be on a
slow link: each keeps to its share of the slots while several have something to copy.
"""

import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import torch

from prfaas.clock import Clock
from prfaas.engine.layout import AttentionLayer, Bytes, CacheLayout, StateLayer
from prfaas.engine.metadata import BlockIds, SaveFinish, SaveStep
from prfaas.transport.messages import (
    MAX_PIECES_PER_MESSAGE,
    Cancel,
    FromWorker,
    HeldTokens,
    SaveClosed,
    SaveEnd,
    SlotPiece,
    SlotsFree,
    Staged,
)
from prfaas.types import Part, Piece

logger = logging.getLogger(__name__)

MAX_EARLY_TRANSFERS = 4096
"""Transfers whose messages came before their first step are remembered; far more than an engine can have queued."""


@dataclass
class ActiveSave:
    """One transfer's progress; owned by the worker's thread.

    Attributes:
        computed: tokens whose rows are in the cache (of layers that the running step has passed).
        staged: per attention layer, the token up to which rows are in staging.
        states: pieces of the recurrent state still to be copied, None until the state is final.
        lent: slots that hold its pieces.
        is_behind: slots were lacking when it was copied last, so that layers already passed may have rows left.
        is_started: the decode side takes the pieces in.
        open_by_s, deadline_s: when a finished one is given up, unless it is started or ended by then.
        is_readable: the blocks are surely the request's, now.
        finish: the engine has finished the request and waits for our word.
    """

    transfer_id: str
    num_tokens: int
    block_ids: BlockIds = ()
    computed: int = 0
    staged: dict[int, int] = field(default_factory=dict)
    states: deque[Piece] | None = None
    prefill_end_s: float = 0.0
    lent: int = 0
    is_behind: bool = False
    is_started: bool = False
    open_by_s: float = 0.0
    deadline_s: float = 0.0
    is_readable: bool = False
    is_closed: bool = False
    is_ended: bool = False
    finish: SaveFinish | None = None

    @property
    def has_work(self) -> bool:
        """Something of it can be copied now, or could be if there were slots."""
        return self.is_readable and not self.is_closed and not self.is_ended


class SaveWorker:
    """Owned by the model runner's thread.

    Args:
        staging: the send arena, uint8 ``[slots, slot_bytes]``.
        send: hands a message to the mover, never blocks.
        open_within_s: how long a finished request keeps its blocks for a decode side that has not started.
    """

    def __init__(
        self,
        layout: CacheLayout,
        staging: torch.Tensor,
        send: Callable[[FromWorker], None],
        clock: Clock,
        open_within_s: float,
    ) -> None:
        self._layout = layout
        self._passed = {
            layout.names[layer.index]: (layout.attention[: at + 1], layout.finished_at(layer))
            for at, layer in enumerate(layout.attention)
        }
        self._staging: Bytes = staging.numpy()
        slots: int = staging.shape[0]
        self._slot_bytes: int = staging.shape[1]
        self._free = deque(range(slots))
        self._owners: list[ActiveSave | None] = [None] * slots
        self._kept_for_started = slots // 2
        self._share = slots
        self._send = send
        self._clock = clock
        self._open_within_s = open_within_s
        self._saves: dict[str, ActiveSave] = {}
        self._early: OrderedDict[str, list[HeldTokens | SaveClosed]] = OrderedDict()
        self._done: set[str] = set()
        self._stepping: list[tuple[ActiveSave, SaveStep]] = []

    @property
    def free_slots(self) -> int:
        return len(self._free)

    @property
    def is_short(self) -> bool:
        """A step is running whose rows may find no slot: it is worth asking the mover for some before its end."""
        is_low = len(self._free) <= self._kept_for_started
        return any(is_low or save.is_behind for save, _ in self._stepping)

    def begin_step(self, steps: Iterable[SaveStep]) -> None:
        """A step is about to compute these chunks."""
        # Left over only when a hook of the last step has failed.
        self._stepping.clear()
        for step in steps:
            save = self._saves.get(step.transfer_id)
            if save is None:
                save = self._saves[step.transfer_id] = ActiveSave(step.transfer_id, step.num_tokens)
                for message in self._early.pop(step.transfer_id, ()):
                    self.heard(message)
            save.block_ids, save.computed, save.is_readable = step.block_ids, step.start, True
            self._stepping.append((save, step))
        self._divide_slots()

    def _divide_slots(self) -> None:
        count = sum(save.has_work for save in self._saves.values())
        self._share = max(1, len(self._owners) // max(1, count))

    def after_layer(self, name: str) -> None:
        """The attention operator of a layer has written this step's rows."""
        if name not in self._passed:
            return
        layers, finished = self._passed[name]
        for save, step in self._stepping:
            save.computed = step.end
            self._guarded(save, self._stage_rows, layers if save.is_behind else layers[-1:])
            save.computed = step.start
            if step.is_last:
                self._guarded(save, self._stage_states, finished)

    def end_step(self) -> None:
        """The forward pass is over: everything it computed is final."""
        for save, step in self._stepping:
            save.computed = step.end
            if step.is_last and not save.prefill_end_s:
                save.prefill_end_s = self._clock.now_s()
        self._divide_slots()
        for save in list(self._saves.values()):
            if save.is_readable:
                self._advance(save)
        if first := next(iter(self._saves), None):
            # Another one comes first next time, for there may be fewer slots than transfers.
            self._saves[first] = self._saves.pop(first)
        for save, _ in self._stepping:
            save.is_readable = save.finish is not None
        self._stepping.clear()

    def _advance(self, save: ActiveSave) -> None:
        self._guarded(save, self._stage_rows, self._layout.attention)
        if save.computed >= save.num_tokens:
            self._guarded(save, self._stage_states, len(self._layout.layers))
        if self._is_staged(save) and not save.is_closed and not save.is_ended:
            save.is_ended = True
            self._send(SaveEnd(save.transfer_id, save.num_tokens, save.prefill_end_s))

    def _is_staged(self, save: ActiveSave) -> bool:
        rows = all(save.staged.get(layer.index, 0) >= save.num_tokens for layer in self._layout.attention)
        return rows and save.computed >= save.num_tokens and save.states is not None and not save.states

    def finish(self, finishes: Iterable[SaveFinish]) -> None:
        """The engine is done with these requests; their blocks stay until ``take_finished`` names them."""
        now_s = self._clock.now_s()
        for finish in finishes:
            save = self._saves.setdefault(finish.transfer_id, ActiveSave(finish.transfer_id, 0, is_closed=True))
            if save.finish is not None and save.finish.request_id != finish.request_id:
                self._done.add(save.finish.request_id)
            save.finish = finish
            save.open_by_s = now_s + self._open_within_s
            save.deadline_s = now_s + finish.timeout_s
            save.is_closed |= finish.is_aborted
            save.is_readable = not save.is_closed

    def take_finished(self) -> set[str]:
        """Requests whose blocks are no longer read."""
        self._expire()
        done, self._done = self._done, set()
        for save in [s for s in self._saves.values() if s.finish and (s.is_closed or s.is_ended)]:
            del self._saves[save.transfer_id]
            assert save.finish is not None
            done.add(save.finish.request_id)
        return done

    def _expire(self) -> None:
        """Give up finished requests that nobody fetches: their blocks are wanted."""
        now_s = self._clock.now_s()
        for save in self._saves.values():
            if save.finish is None or save.is_closed or save.is_ended:
                continue
            if now_s > save.deadline_s or (now_s > save.open_by_s and not save.is_started):
                self._give_up(save, "nobody has fetched it in time")

    def heard(self, message: SlotsFree | HeldTokens | SaveClosed) -> None:
        """Take the mover's word; it may come before the transfer's first step, or after its end."""
        if isinstance(message, SlotsFree):
            self._take_back(message.slots)
        elif save := self._saves.get(message.transfer_id):
            self._take(save, message)
        else:
            self._early.setdefault(message.transfer_id, []).append(message)
            while len(self._early) > MAX_EARLY_TRANSFERS:
                self._early.popitem(last=False)

    def _take_back(self, slots: Iterable[int]) -> None:
        for slot in slots:
            self._free.append(slot)
            if owner := self._owners[slot]:
                owner.lent -= 1
                self._owners[slot] = None

    def _take(self, save: ActiveSave, message: HeldTokens | SaveClosed) -> None:
        if isinstance(message, SaveClosed):
            save.is_closed = True
            return
        save.is_started = True
        for layer in self._layout.attention:
            held = message.held_tokens // layer.granularity * layer.granularity
            save.staged[layer.index] = max(save.staged.get(layer.index, 0), held)

    def close_all(self, reason: str) -> None:
        """The mover is gone: nothing can be sent any more."""
        for save in self._saves.values():
            if not save.is_closed:
                logger.error(
                    "transfer %s is given up: %s", save.transfer_id, reason, extra={"transfer_id": save.transfer_id}
                )
                save.is_closed = True

    def _guarded(self, save: ActiveSave, stage: Callable[..., None], *args: object) -> None:
        """Run one copying step; an error gives up this transfer and leaves the engine and the others alone."""
        if save.is_closed or save.is_ended:
            return
        try:
            stage(save, *args)
        except Exception as error:  # one in a hook kills the engine: whatever it is ends this one transfer instead
            logger.exception(
                "transfer %s: copying its cache failed", save.transfer_id, extra={"transfer_id": save.transfer_id}
            )
            self._give_up(save, f"copying the cache failed: {error}")

    def _give_up(self, save: ActiveSave, reason: str) -> None:
        logger.warning("transfer %s is given up: %s", save.transfer_id, reason, extra={"transfer_id": save.transfer_id})
        save.is_closed = True
        self._send(Cancel(save.transfer_id, reason))

    def _stage_rows(self, save: ActiveSave, layers: Iterable[AttentionLayer]) -> None:
        self._stage(save, (piece for layer in layers for piece in self._ready_rows(save, layer)))

    def _ready_rows(self, save: ActiveSave, layer: AttentionLayer) -> Iterator[Piece]:
        """Pieces of a layer that are computed and not staged; one counts as staged as soon as it is taken."""
        end = min(save.computed, save.num_tokens)
        if end < save.num_tokens:
            end -= end % layer.granularity
        needed = layer.first_needed(save.num_tokens) // layer.granularity * layer.granularity
        start = max(save.staged.get(layer.index, 0), needed)
        for first, stop in layer.split(start, end, self._slot_bytes):
            save.staged[layer.index] = stop
            yield Piece(layer.index, Part.KV, 0, first, stop - first, layer.bytes_of(stop - first))

    def _stage_states(self, save: ActiveSave, below: int) -> None:
        """Copy the states of recurrent layers with an index under ``below``; only in or after the last chunk."""
        if save.states is None:
            save.states = deque(p for layer in self._layout.states for p in layer.pieces(self._slot_bytes))
        ready = save.states

        def taken() -> Iterator[Piece]:
            while ready and ready[0].layer < below:
                yield ready.popleft()

        self._stage(save, taken())

    def _stage(self, save: ActiveSave, pieces: Iterator[Piece]) -> None:
        """Copy pieces into free slots as long as there are any, and lend the slots to the mover.

        A piece is taken from the iterator only when there is a slot for it.
        """
        batch: list[SlotPiece] = []
        try:
            while self._may_take_slot(save) and (piece := next(pieces, None)) is not None:
                self._copy(save, piece, self._staging[self._free[0], : piece.length])
                slot = self._free.popleft()
                self._owners[slot] = save
                save.lent += 1
                batch.append(
                    SlotPiece(piece.layer, piece.part, piece.index, piece.first, piece.count, piece.length, slot)
                )
        finally:
            save.is_behind = not self._may_take_slot(save)
            for at in range(0, len(batch), MAX_PIECES_PER_MESSAGE):
                self._send(Staged(save.transfer_id, batch[at : at + MAX_PIECES_PER_MESSAGE]))

    def _may_take_slot(self, save: ActiveSave) -> bool:
        if save.is_started:
            return bool(self._free) and save.lent < self._share
        return len(self._free) > self._kept_for_started

    def _copy(self, save: ActiveSave, piece: Piece, out: Bytes) -> None:
        layer = self._layout.layers[piece.layer]
        blocks = save.block_ids[layer.group]
        if isinstance(layer, StateLayer):
            block = layer.state_block(blocks, save.num_tokens)
            out[:] = layer.tensor(block, piece.index)[piece.first : piece.first + piece.length]
        else:
            layer.read(blocks, piece.first, piece.count, out)
