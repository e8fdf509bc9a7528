"""One load's pieces on their way into vLLM's blocks, and the proof that all of them came.

Every row and every byte of state that this engine's own layout asks for must have been written, whatever the other
side's manifest says.
"""

from collections import defaultdict
from collections.abc import Iterable

from prfaas.engine.layout import NULL_BLOCK, AttentionLayer, Bytes, CacheLayout, StateLayer
from prfaas.engine.metadata import LoadStart
from prfaas.errors import TransferFailed
from prfaas.transport.messages import SlotPiece

Ranges = list[tuple[int, int]]


class LoadWriter:
    """Writes into the blocks that ``start`` names and nowhere else; owned by the load.

    Attributes:
        written: tokens (or state bytes) that have been written, by layer and tensor.
    """

    def __init__(self, layout: CacheLayout, start: LoadStart) -> None:
        self.written: dict[tuple[int, int], Ranges] = defaultdict(list)
        self._layout = layout
        self._start = start
        self._first_tokens: dict[int, int] = {}

    def prepare(self) -> None:
        """Do what needs the blocks alone, before the last pieces make it urgent."""
        start = self._start
        leading = [_leading_nulls(blocks) for blocks in start.block_ids]
        for layer in self._layout.attention:
            # Tokens before it are held, or their blocks are not kept any more.
            self._first_tokens[layer.index] = max(start.held_tokens, leading[layer.group] * layer.block_tokens)
            self._zero_tail(layer)

    def _zero_tail(self, layer: AttentionLayer) -> None:
        """Zero the rows of the last block that belong to no token: their old bytes could read as NaN."""
        num_tokens = self._start.num_tokens
        end = -(-num_tokens // layer.block_tokens) * layer.block_tokens
        layer.zero(self._start.block_ids[layer.group], num_tokens, end)

    def write(self, piece: SlotPiece, payload: Bytes) -> None:
        """Copy one piece to its place.

        Raises:
            TransferFailed: it does not fit this engine's layout; what was written before stays.
        """
        layer = self._layout.layers[piece.layer]
        if isinstance(layer, StateLayer):
            self._write_state(layer, piece, payload)
        else:
            self._write_rows(layer, piece, payload)

    def _write_state(self, layer: StateLayer, piece: SlotPiece, payload: Bytes) -> None:
        end = piece.first + piece.length
        if piece.index >= len(layer.tensor_bytes) or end > layer.tensor_bytes[piece.index]:
            raise TransferFailed(f"bytes {piece.first}..{end} lie outside state tensor {piece.index}")
        block = layer.state_block(self._start.block_ids[layer.group], self._start.num_tokens)
        layer.tensor(block, piece.index)[piece.first : end] = payload
        add_range(self.written[layer.index, piece.index], piece.first, end)

    def _write_rows(self, layer: AttentionLayer, piece: SlotPiece, payload: Bytes) -> None:
        blocks, end = self._start.block_ids[layer.group], piece.first + piece.count
        is_whole = not piece.first % layer.granularity and piece.length == layer.bytes_of(piece.count)
        if end > self._start.num_tokens or not is_whole:
            raise TransferFailed(f"rows {piece.first}..{end} in {piece.length} bytes do not fit layer {piece.layer}")
        first = max(piece.first, self._first_tokens[layer.index])
        if first >= end:
            return
        layer.write(blocks, piece.first, piece.count, payload, skip=first - piece.first)
        add_range(self.written[layer.index, 0], first, end)

    def check(self) -> None:
        """Raise TransferFailed unless everything that this engine needs has been written."""
        for layer in self._layout.layers:
            for tensor, (first, end) in self._needed(layer).items():
                missing = first_gap(self.written[layer.index, tensor], first, end)
                if missing is not None:
                    name = self._layout.names[layer.index]
                    raise TransferFailed(f"the cache of layer {name} is incomplete at {missing} of {end}")

    def _needed(self, layer: AttentionLayer | StateLayer) -> dict[int, tuple[int, int]]:
        """The range of tokens, or of each state tensor's bytes, without which the layer is not complete."""
        if isinstance(layer, StateLayer):
            return {tensor: (0, size) for tensor, size in enumerate(layer.tensor_bytes)}
        num_tokens = self._start.num_tokens
        return {0: (max(self._start.held_tokens, layer.first_needed(num_tokens)), num_tokens)}


def _leading_nulls(blocks: tuple[int, ...]) -> int:
    """Blocks of a window or a state that vLLM does not keep any more: null blocks at the beginning."""
    return next((i for i, block in enumerate(blocks) if block != NULL_BLOCK), len(blocks))


def add_range(ranges: Ranges, first: int, end: int) -> None:
    """Note a range; one that begins where the last one ended makes that one longer."""
    if ranges and ranges[-1][1] == first:
        first = ranges.pop()[0]
    ranges.append((first, end))


def first_gap(ranges: Iterable[tuple[int, int]], first: int, end: int) -> int | None:
    """First position of ``first .. end`` that no range covers, None when all of it is covered."""
    for start, stop in sorted(ranges):
        if start > first:
            break
        first = max(first, stop)
    return first if first < end else None
