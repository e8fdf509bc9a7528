"""Rows and pages: what a slab calls a token's row is what vLLM's kernel wrote for that token."""

import pytest
import torch
from vllm import _custom_ops as ops

from prfaas.engine.layout import AttentionLayer, cpu_vec_slabs, opaque_slabs, token_major_slabs

HEADS, TOKENS, HEAD_SIZE, PAGES = 2, 96, 64, 5


def cache_written_by_kernel(isa: str, num_tokens: int, blocks: list[int]) -> tuple[torch.Tensor, ...]:
    """A paged cache filled by vLLM's CPU kernel, with the keys and values that went in."""
    cache = torch.zeros(PAGES, HEADS, TOKENS, 2 * HEAD_SIZE, dtype=torch.bfloat16)
    keys, values = cache.view(PAGES, HEADS, 2 * TOKENS, HEAD_SIZE).chunk(2, dim=2)  # as vLLM's CPU backend splits it
    key, value = (torch.randn(num_tokens, HEADS, HEAD_SIZE).bfloat16() for _ in range(2))
    slots = torch.tensor([blocks[t // TOKENS] * TOKENS + t % TOKENS for t in range(num_tokens)])
    ops.cpu_attn_reshape_and_cache(key, value, keys, values, slots, isa)
    return cache, key, value


@pytest.mark.parametrize("isa", ["vec", "vec16"])
@pytest.mark.parametrize(("first", "count"), [(0, 1), (5, 40), (90, 6), (96, 70), (0, 96)])
def test_vec_rows_are_the_keys_and_values_of_their_tokens(isa: str, first: int, count: int) -> None:
    """A row range read through the slabs holds exactly the keys and values the kernel was given for it."""
    cache, key, value = cache_written_by_kernel(isa, 170, [3, 1])
    layer = AttentionLayer(0, 0, TOKENS, TOKENS, 1, None, cpu_vec_slabs(cache))
    out = torch.empty(layer.bytes_of(count), dtype=torch.uint8)
    layer.read([3, 1], first, count, out.numpy())
    half = out.numel() // 2
    keys = out[:half].view(torch.bfloat16).view(HEADS, HEAD_SIZE, count)
    values = out[half:].view(torch.bfloat16).view(HEADS, count, HEAD_SIZE)
    assert torch.equal(keys, key[first : first + count].permute(1, 2, 0))
    assert torch.equal(values, value[first : first + count].permute(1, 0, 2))


def test_vec_rows_written_elsewhere_give_the_same_pages() -> None:
    """Rows read from one cache and written to other blocks of another make byte-equal pages."""
    cache, _, _ = cache_written_by_kernel("vec", 2 * TOKENS, [3, 1])
    other = torch.zeros_like(cache)
    source = AttentionLayer(0, 0, TOKENS, TOKENS, 1, None, cpu_vec_slabs(cache))
    target = AttentionLayer(0, 0, TOKENS, TOKENS, 1, None, cpu_vec_slabs(other))
    for first, stop in source.split(0, 2 * TOKENS, max_bytes=5000):
        payload = torch.empty(source.bytes_of(stop - first), dtype=torch.uint8)
        source.read([3, 1], first, stop - first, payload.numpy())
        target.write([2, 4], first, stop - first, payload.numpy())
    assert torch.equal(other[2], cache[3])
    assert torch.equal(other[4], cache[1])
    assert not other[[0, 1, 3]].any()


def test_rows_do_not_depend_on_the_block_size() -> None:
    """A sender with large blocks and a receiver with small ones agree on every token."""
    large, small = torch.randn(4, 2, 48, 8), torch.zeros(12, 2, 16, 8)
    source = AttentionLayer(0, 0, 48, 48, 1, None, token_major_slabs(large))
    target = AttentionLayer(0, 0, 16, 16, 1, None, token_major_slabs(small))
    payload = torch.empty(source.bytes_of(41), dtype=torch.uint8)
    source.read([2, 1], 5, 41, payload.numpy())
    target.write([7, 3, 9], 5, 41, payload.numpy())
    for token in range(5, 46):
        assert torch.equal(small[[7, 3, 9][token // 16], :, token % 16], large[[2, 1][token // 48], :, token % 48])


def test_kernel_pages_smaller_than_blocks_are_addressed_through_their_block() -> None:
    """A block id that stands for several kernel pages finds the right one."""
    cache = torch.arange(8 * 1 * 4 * 2, dtype=torch.uint8).view(8, 1, 4, 2)
    layer = AttentionLayer(0, 0, block_tokens=8, page_tokens=4, granularity=1, window=None, slabs=(cache,))
    out = torch.empty(2, dtype=torch.uint8)
    layer.read([3, 1], 13, 1, out.numpy())
    assert torch.equal(out, cache[1 * 2 + 1, 0, 1])


def test_opaque_pages_travel_whole() -> None:
    """A page that cannot be sliced is one row, padded beyond the tokens it holds."""
    cache = torch.randn(4, 2, 16, 8)
    layer = AttentionLayer(0, 0, 16, 16, 16, None, opaque_slabs(cache))
    assert layer.bytes_of(3) == layer.bytes_of(16) == 2 * 16 * 8 * 4
    assert list(layer.split(0, 35, 1)) == [(0, 16), (16, 32), (32, 35)]
    payload = torch.empty(layer.bytes_of(3), dtype=torch.uint8)
    layer.read([1, 2], 16, 3, payload.numpy())
    assert torch.equal(payload.view(torch.float32).view(2, 16, 8), cache[2])


def test_slices_are_views() -> None:
    """Writing through a slab changes vLLM's memory, for every kind of page."""
    for make in (cpu_vec_slabs, token_major_slabs, opaque_slabs):
        cache = torch.zeros(3, HEADS, TOKENS, 2 * HEAD_SIZE, dtype=torch.bfloat16)
        for slab in make(cache):
            slab.fill_(1)
        assert cache.view(torch.uint8).all()


def test_null_blocks_are_refused() -> None:
    """vLLM's null block is never read or written: a row without a block is an error."""
    layer = AttentionLayer(0, 0, 8, 8, 1, None, token_major_slabs(torch.zeros(3, 1, 8, 2)))
    with pytest.raises(IndexError, match="token 3 of layer 0 has no block"):
        layer.zero([0, 2], 3, 5)
