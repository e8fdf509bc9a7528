"""Where the bytes of each layer lie in vLLM's paged cache, and how to move rows and states in and out of it.

An attention page is described by *slabs*: strided byte views ``[pages, ..., rows, inner]`` whose ``rows`` axis counts
tokens. The payload of a range of rows is the slabs' slices one after the other, each in C order, so it does not
depend on the sender's block size. What cannot be sliced by token is one opaque row per page (``granularity`` equals
the page's tokens).

    token-major pages (GPU with LBHNC, MLA)      one slab   [pages, heads, tokens, channels]
    CPU "vec" pages                              K slab     [pages, heads, head_size, tokens, 1]   (K is transposed)
                                                 V slab     [pages, heads, tokens, head_size]
    other CPU instruction sets                   one slab   [pages, 1, page]                       (packed, opaque)

A recurrent page is the layer's state tensors packed one after the other at the page's start, the rest is padding.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from prfaas.types import Part, Piece

Bytes = NDArray[np.uint8]
"""Host memory to copy from and to: slicing and copying it costs a tenth of what it costs as a tensor."""

NULL_BLOCK = 0


@dataclass(frozen=True)
class AttentionLayer:
    """The pages of one attention layer.

    Attributes:
        index: position in the transfer's layer table.
        group: transfer group whose block ids address this layer.
        block_tokens: tokens a block id stands for.
        page_tokens: tokens of one page (a block is ``block_tokens // page_tokens`` consecutive pages).
        granularity: tokens that cannot be told apart; rows start at multiples of it.
        window: sliding window in tokens, None for full attention.
        slabs: views as described above, as bytes (uint8), all sharing vLLM's memory.
    """

    index: int
    group: int
    block_tokens: int
    page_tokens: int
    granularity: int
    window: int | None
    slabs: tuple[torch.Tensor, ...]

    @cached_property
    def row_bytes(self) -> int:
        """Payload bytes of one row (``granularity`` tokens) over all slabs."""
        return sum(row_bytes for _, row_bytes in self._memory)

    @cached_property
    def _memory(self) -> tuple[tuple[Bytes, int], ...]:
        """Each slab as host memory, and the bytes of its rows."""
        return tuple((slab.numpy(), math.prod(slab.shape[1:-2]) * slab.shape[-1]) for slab in self.slabs)

    def bytes_of(self, count: int) -> int:
        """Payload bytes of ``count`` tokens, padded up to whole rows."""
        return self.row_bytes * -(-count // self.granularity)

    def first_needed(self, num_tokens: int) -> int:
        """First token whose row can still be read once ``num_tokens`` are computed, down to its block's first.

        vLLM keeps and hashes whole blocks: a later request may hit the block in which the window begins and then reads
        rows that this one does not need.
        """
        if self.window is None:
            return 0
        return max(0, num_tokens - self.window + 1) // self.block_tokens * self.block_tokens

    def split(self, first: int, end: int, max_bytes: int) -> Iterator[tuple[int, int]]:
        """Cut ``first .. end`` into ranges that stay inside a page and below ``max_bytes`` of payload."""
        step = max(1, max_bytes // self.row_bytes) * self.granularity
        while first < end:
            page_end = (first // self.page_tokens + 1) * self.page_tokens
            stop = min(end, first + step, page_end)
            yield first, stop
            first = stop

    def read(self, blocks: Sequence[int], first: int, count: int, out: Bytes) -> None:
        """Copy the rows of ``count`` tokens from ``first`` on (inside one page) to ``out``, one-dimensional."""
        page, rows = self._place(blocks, first, count)
        for (memory, _), part in zip(self._memory, self._parts(out, rows.stop - rows.start), strict=True):
            part[...] = memory[page, ..., rows, :]

    def write(self, blocks: Sequence[int], first: int, count: int, payload: Bytes, skip: int = 0) -> None:
        """Copy ``payload`` (the rows of ``count`` tokens from ``first`` on) into any number of pages.

        The first ``skip`` tokens (whole rows) are left out: their blocks belong to somebody else.
        """
        parts = self._parts(payload, -(-count // self.granularity))
        for start, stop in self.split(first + skip, first + count, max_bytes=1 << 62):
            page, rows = self._place(blocks, start, stop - start)
            at = (start - first) // self.granularity
            for (memory, _), part in zip(self._memory, parts, strict=True):
                memory[page, ..., rows, :] = part[..., at : at + rows.stop - rows.start, :]

    def zero(self, blocks: Sequence[int], first: int, end: int) -> None:
        """Zero the rows ``first .. end``; rows shared with a token below ``first`` are kept."""
        first = -(-first // self.granularity) * self.granularity
        for start, stop in self.split(first, end, max_bytes=1 << 62):
            page, rows = self._place(blocks, start, stop - start)
            for memory, _ in self._memory:
                memory[page, ..., rows, :] = 0

    def _parts(self, payload: Bytes, rows: int) -> list[Bytes]:
        """The part of each slab in a payload of ``rows`` rows, in the slab's shape."""
        parts, offset = [], 0
        for memory, row_bytes in self._memory:
            end = offset + row_bytes * rows
            parts.append(payload[offset:end].reshape((*memory.shape[1:-2], rows, memory.shape[-1])))
            offset = end
        return parts

    def _place(self, blocks: Sequence[int], first: int, count: int) -> tuple[int, slice]:
        """The page of a range inside one page, and its rows there."""
        block = blocks[first // self.block_tokens]
        if block == NULL_BLOCK:
            raise IndexError(f"token {first} of layer {self.index} has no block")
        page = block * (self.block_tokens // self.page_tokens) + first % self.block_tokens // self.page_tokens
        row = first % self.page_tokens // self.granularity
        return page, slice(row, row - (-count // self.granularity))


@dataclass(frozen=True)
class StateLayer:
    """The pages of one recurrent layer.

    Attributes:
        block_tokens: tokens a column of the block list stands for.
        tensor_bytes: bytes of each state tensor, in page order.
        pages: uint8 view ``[blocks, sum(tensor_bytes)]``.
    """

    index: int
    group: int
    block_tokens: int
    tensor_bytes: tuple[int, ...]
    pages: torch.Tensor

    def state_block(self, blocks: Sequence[int], num_tokens: int) -> int:
        """The block that holds the state after ``num_tokens`` tokens (vLLM's running-state column)."""
        block = blocks[-(-num_tokens // self.block_tokens) - 1]
        if block == NULL_BLOCK:
            raise IndexError(f"the state of layer {self.index} after {num_tokens} tokens has no block")
        return block

    @cached_property
    def _tensors(self) -> tuple[Bytes, ...]:
        """Each state tensor as host memory, ``[blocks, bytes]``."""
        ends = list(itertools.accumulate(self.tensor_bytes, initial=0))
        memory = self.pages.numpy()
        return tuple(memory[:, start:end] for start, end in itertools.pairwise(ends))

    def tensor(self, block: int, tensor: int) -> Bytes:
        """The bytes of one state tensor in a block, not a copy."""
        memory: Bytes = self._tensors[tensor][block]
        return memory

    def pieces(self, max_bytes: int) -> Iterator[Piece]:
        """The pieces that make up the whole state, each at most ``max_bytes``."""
        for tensor, size in enumerate(self.tensor_bytes):
            for offset in range(0, size, max_bytes):
                yield Piece(self.index, Part.STATE, tensor, offset, 0, min(max_bytes, size - offset))


@dataclass(frozen=True)
class CacheLayout:
    """All layers whose cache is transferred, in the order of the layer table (the model's order)."""

    layers: tuple[AttentionLayer | StateLayer, ...]
    names: tuple[str, ...]

    def finished_at(self, layer: AttentionLayer) -> int:
        """How many layers of the table the forward pass has surely left when this layer's attention has run.

        Those of smaller depth. What shares the depth may run before, beside or after the attention (FalconH1 has a
        Mamba mixer and attention in each layer).
        """
        depth = self.depths[layer.index]
        if depth is None:
            return 0
        return sum(1 for _ in itertools.takewhile(lambda other: other is not None and other < depth, self.depths))

    @cached_property
    def depths(self) -> tuple[int | None, ...]:
        """Of each layer of the table the depth in the model."""
        return tuple(map(model_depth, self.names))

    @cached_property
    def attention(self) -> tuple[AttentionLayer, ...]:
        return tuple(layer for layer in self.layers if isinstance(layer, AttentionLayer))

    @cached_property
    def states(self) -> tuple[StateLayer, ...]:
        return tuple(layer for layer in self.layers if isinstance(layer, StateLayer))


def model_depth(name: str) -> int | None:
    """The layer number in a name like ``model.layers.7.mixer``, None where there is none."""
    return next((int(part) for part in name.split(".") if part.isdigit()), None)


def as_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """View any tensor whose last axis is dense as uint8 without copying."""
    return tensor.view(torch.uint8)


def token_major_slabs(cache: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Slabs of a logical ``[pages, heads, tokens, channels]`` cache whose channels are dense."""
    return (as_bytes(cache),)


def cpu_vec_slabs(cache: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Slabs of the CPU backend's "vec" pages: per head K as ``[head_size, tokens]``, then V as ``[tokens, head_size]``.

    The logical cache is ``[pages, heads, tokens, 2 * head_size]``, dense inside a page.
    """
    pages, heads, tokens, channels = cache.shape
    page_stride, head_stride = cache.stride(0), cache.stride(1)
    head_size = channels // 2
    keys = cache.as_strided(
        (pages, heads, head_size, tokens), (page_stride, head_stride, tokens, 1), cache.storage_offset()
    )
    values = cache.as_strided(
        (pages, heads, tokens, head_size),
        (page_stride, head_stride, head_size, 1),
        cache.storage_offset() + tokens * head_size,
    )
    # A token's K elements lie `tokens` apart, so each element is an inner axis of its own.
    return as_bytes(keys).unflatten(3, (tokens, cache.itemsize)), as_bytes(values)


def opaque_slabs(cache: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """One row per page, for pages whose inside is packed in a way only the kernel knows."""
    page_bytes = math.prod(cache.shape[1:]) * cache.itemsize
    raw = as_bytes(cache)
    return (raw.as_strided((cache.shape[0], 1, page_bytes), (raw.stride(0), page_bytes, 1), raw.storage_offset()),)
