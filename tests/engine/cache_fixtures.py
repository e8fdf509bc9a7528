"""Small caches with the shapes of a hybrid model, and a link that moves pieces between two of them in memory."""

from dataclasses import dataclass, field

import torch

from prfaas.clock import ManualClock
from prfaas.engine.layout import AttentionLayer, CacheLayout, StateLayer, as_bytes, token_major_slabs
from prfaas.engine.load_worker import LoadWorker
from prfaas.engine.metadata import BlockIds, LoadStart, SaveFinish, SaveStep
from prfaas.engine.save_worker import SaveWorker
from prfaas.transport.messages import (
    Arrived,
    FromWorker,
    HeldTokens,
    LoadComplete,
    SaveEnd,
    SlotPiece,
    SlotsDone,
    SlotsFree,
    Staged,
)

NAMES = ("layers.0.state", "layers.1.full", "layers.2.state", "layers.3.window")
HEADS, CHANNELS, STATE_BYTES = 2, 6, (10, 23)
WINDOW = 6
OPEN_WITHIN_S = 10.0


@dataclass
class Cache:
    """A paged cache of four layers; block sizes may differ from the other side's.

    Groups: 0 full attention, 1 sliding window, 2 recurrent state.
    """

    full_block: int
    window_block: int
    state_block: int
    seed: int
    num_blocks: int = 64

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(self.seed)

        def noise(*shape: int) -> torch.Tensor:
            return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)

        self.full = noise(self.num_blocks, HEADS, self.full_block, CHANNELS)
        self.window = noise(self.num_blocks, HEADS, self.window_block, CHANNELS)
        self.states = [noise(self.num_blocks, 64) for _ in range(2)]
        self.layout = CacheLayout(
            names=NAMES,
            layers=(
                self._state(0, self.states[0]),
                AttentionLayer(1, 0, self.full_block, self.full_block, 1, None, token_major_slabs(self.full)),
                self._state(2, self.states[1]),
                AttentionLayer(3, 1, self.window_block, self.window_block, 1, WINDOW, token_major_slabs(self.window)),
            ),
        )

    def _state(self, index: int, pages: torch.Tensor) -> StateLayer:
        view = as_bytes(pages)[:, : sum(STATE_BYTES)]
        return StateLayer(index, 2, self.state_block, STATE_BYTES, view)

    def blocks_for(self, num_tokens: int, first_block: int) -> BlockIds:
        """Blocks as vLLM hands them out: window and state lists begin with null blocks."""
        full = range(first_block, first_block + -(-num_tokens // self.full_block))
        window_count = -(-num_tokens // self.window_block)
        skipped = max(0, num_tokens - WINDOW + 1) // self.window_block
        window = [0] * skipped + [first_block + 20 + i for i in range(window_count - skipped)]
        state = [0] * (-(-num_tokens // self.state_block) - 1) + [first_block + 40]
        return tuple(full), tuple(window), tuple(state)

    def row(self, layer: int, blocks: BlockIds, token: int) -> bytes:
        """The bytes of one token's row of an attention layer."""
        attention = self.layout.layers[layer]
        assert isinstance(attention, AttentionLayer)
        out = torch.empty(attention.bytes_of(1), dtype=torch.uint8)
        attention.read(blocks[attention.group], token, 1, out.numpy())
        return bytes(out.tolist())

    def state(self, layer: int, blocks: BlockIds, num_tokens: int) -> bytes:
        """All bytes of a recurrent layer's state."""
        recurrent = self.layout.layers[layer]
        assert isinstance(recurrent, StateLayer)
        block = recurrent.state_block(blocks[recurrent.group], num_tokens)
        return b"".join(bytes(recurrent.tensor(block, i).tolist()) for i in range(len(STATE_BYTES)))


@dataclass
class Wire:
    """Stands in for the movers: carries staged pieces over as soon as ``deliver`` is called, counting the slots."""

    prefill: Cache
    decode: Cache
    slot_bytes: int = 64
    send_slots: int = 8
    receive_slots: int = 8
    clock: ManualClock = field(default_factory=ManualClock)
    is_writing: bool = True

    def __post_init__(self) -> None:
        self.send_arena = torch.zeros(self.send_slots, self.slot_bytes, dtype=torch.uint8)
        self.receive_arena = torch.zeros(self.receive_slots, self.slot_bytes, dtype=torch.uint8)
        self.from_save: list[FromWorker] = []
        self.from_load: list[FromWorker] = []
        self.save = SaveWorker(self.prefill.layout, self.send_arena, self.from_save.append, self.clock, OPEN_WITHIN_S)
        self.load = LoadWorker(self.decode.layout, self.receive_arena, self.from_load.append, self.clock)
        self.free_receive_slots = list(range(self.receive_slots))
        self.pieces: list[SlotPiece] = []

    def deliver(self, drop: int | None = None) -> None:
        """Carry over everything staged so far; ``drop`` loses the pieces of that layer."""
        messages, self.from_save[:] = list(self.from_save), []
        for message in messages:
            if isinstance(message, Staged):
                for piece in message.pieces:
                    if piece.layer != drop:
                        self._carry(message.transfer_id, piece)
                self.save.heard(SlotsFree([piece.slot for piece in message.pieces]))
            elif isinstance(message, SaveEnd):
                self.load.heard(LoadComplete(message.transfer_id, message.num_tokens, 0, 0))
                self.write()

    def _carry(self, transfer_id: str, piece: SlotPiece) -> None:
        slot = self.free_receive_slots.pop()
        self.receive_arena[slot] = self.send_arena[piece.slot]
        self.pieces.append(piece)
        arrived = SlotPiece(piece.layer, piece.part, piece.index, piece.first, piece.count, piece.length, slot)
        self.load.heard(Arrived(transfer_id, [arrived]))
        self.write()

    def write(self) -> None:
        """Let the load side write what has arrived, unless it is to wait, and take its slots back."""
        if self.is_writing:
            self.load.write()
        self.take_back_slots()

    def take_back_slots(self) -> None:
        """Collect the receive slots that the load side has given back."""
        for message in self.from_load:
            if isinstance(message, SlotsDone):
                self.free_receive_slots.extend(message.slots)
        self.from_load[:] = [m for m in self.from_load if not isinstance(m, SlotsDone)]

    def started(self, held_tokens: int = 0) -> None:
        """The decode side's word that it takes pieces in."""
        self.save.heard(HeldTokens("t", held_tokens))

    def run_prefill(self, num_tokens: int, chunks: list[int], blocks: BlockIds, start: int = 0) -> None:
        """Steps of a prefill whose chunks end at ``chunks``, delivering after each step and until all is out."""
        for end in chunks:
            self.step(SaveStep("p", "t", start, end, num_tokens, blocks))
            start = end
        self.finish()

    def step(self, step: SaveStep) -> None:
        """One engine step with the hooks in vLLM's order."""
        self.save.begin_step([step])
        self.deliver()
        for name in NAMES:
            self.save.after_layer(name)
            self.deliver()
        self.save.end_step()
        self.deliver()

    def finish(self, steps: int = 20) -> set[str]:
        """Empty steps after the request has ended, until its blocks are given back."""
        self.save.finish([SaveFinish("p", "t", is_aborted=False, timeout_s=60)])
        for _ in range(steps):
            self.save.end_step()
            self.deliver()
            if done := self.save.take_finished():
                return done
        return set()


def load_start(num_tokens: int, blocks: BlockIds, held_tokens: int = 0) -> LoadStart:
    """A load of the transfer that ``Wire`` carries."""
    return LoadStart("d", "t", held_tokens, num_tokens, timeout_s=60.0, block_ids=blocks)
