"""What a trace amounts to: lengths, rate, and what a prefix cache saves of it."""

import tracemalloc

import pytest

from prfaas.errors import ConfigError
from prfaas.planner.trace import TraceRequest
from prfaas.planner.trace_summary import BlockCache, summarise


def request(at_ms: float, input_tokens: int, *block_ids: int, output_tokens: int = 10) -> TraceRequest:
    return TraceRequest(at_ms, input_tokens, output_tokens, block_ids)


def test_a_prefix_of_blocks_is_cached_once_it_was_seen() -> None:
    """The second turn of a conversation computes what is new in it; a block after an unknown one does not count."""
    cache = BlockCache(block_tokens=512)
    assert cache.admit(request(0, 1000, 1, 2)) == 0
    assert cache.admit(request(1, 1500, 1, 2, 3)) == 1024
    assert cache.admit(request(2, 1500, 9, 2, 3)) == 0


def test_the_last_token_is_always_computed() -> None:
    """A prompt that is cached as a whole still needs its logits."""
    cache = BlockCache(block_tokens=512)
    cache.admit(request(0, 1000, 1, 2))
    assert cache.admit(request(1, 1000, 1, 2)) == 999


def test_the_longest_unused_block_goes_first_and_ends_before_beginnings() -> None:
    """With room for three, a new block costs the end of the older prompt, whose beginning stays useful."""
    cache = BlockCache(3, 512)
    cache.admit(request(0, 1024, 1, 2))
    cache.admit(request(1, 1024, 7, 8))
    assert cache.admit(request(2, 1024, 1, 2)) == 512
    assert BlockCache(0, 512).admit(request(0, 1024, 1, 2)) == 0


def test_a_cache_without_room_saves_nothing() -> None:
    """Capacity zero plans without hits."""
    cache = BlockCache(0)
    assert [cache.admit(request(0, 1000, 1, 2)) for _ in range(2)] == [0, 0]
    with pytest.raises(ConfigError, match="cache of -1 blocks"):
        BlockCache(-1)


def test_a_summary_by_hand() -> None:
    """Three requests over two seconds, the second of which finds 1,024 of its 1,500 tokens."""
    trace = [request(1000, 1000, 1, 2), request(2000, 1500, 1, 2, 3), request(3000, 500, 9, output_tokens=40)]
    found = summarise(trace)
    assert (found.requests, found.span_s, found.requests_s, found.output_tokens) == (3, 2.0, 1.5, 20)
    assert found.inputs.tokens == (500, 1000, 1500)
    assert found.uncached.tokens == (476, 500, 1000)
    assert found.hit_share == pytest.approx(1024 / 3000)
    assert found.workload().lengths is found.uncached
    assert found.workload(has_hits=False).lengths is found.inputs


def test_requests_at_once_have_no_rate() -> None:
    """A span of zero seconds is no division by zero."""
    assert summarise([request(5, 1000), request(5, 1000)]).requests_s == 0.0


def test_nothing_to_summarise_is_refused() -> None:
    """Neither an empty trace nor one whose answers are all empty says what to plan for."""
    with pytest.raises(ConfigError, match="no request"):
        summarise([])
    with pytest.raises(ConfigError, match="output_tokens: 0"):
        summarise([request(0, 1000, output_tokens=0)]).workload()


def test_memory_does_not_grow_with_the_trace() -> None:
    """Ten times the requests, each with blocks of its own and so none in the cache for long, need no more memory."""

    def peak_bytes(count: int) -> int:
        requests = (request(number, 1000 + number % 50, 2 * number, 2 * number + 1) for number in range(count))
        tracemalloc.start()
        found = summarise(requests, BlockCache(1000))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found.requests == count
        return peak

    peak_bytes(100)
    assert peak_bytes(30_000) < 1.2 * peak_bytes(3000)
