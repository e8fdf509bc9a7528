"""What movers tell of the links between them."""

from collections.abc import Iterator

import pytest

from prfaas.transport.messages import LoadComplete
from prfaas.transport.settings import RateLimit
from prfaas.types import LinkStatistics
from tests.transport.movers import CONFIG, Pair, TinyEngine, full_slots, rows, statistics_of

SIZE_BYTES = 16 << 20
RATE_BYTES_S = 1e8
"""Slow enough that the transfer is long against the activity that a rate is taken from, however fast the machine is."""


@pytest.fixture(scope="module")
def metered() -> Iterator[Pair]:
    """A pair that knows its bandwidth; nobody else uses it, so that the counters are known."""
    prefill = TinyEngine("cloud", link_bandwidth_bytes_s=1e9, rate_limits=(RateLimit(("edge",), RATE_BYTES_S),))
    decode = TinyEngine("edge", link_bandwidth_bytes_s=1e9)
    yield Pair(prefill, decode)
    decode.close()
    prefill.close()


def only_link(engine: TinyEngine) -> LinkStatistics:
    (link,) = statistics_of(engine).links
    return link


def is_sampled_at_rest(pair: Pair) -> bool:
    """Whether the prefill side has taken a sample since its transfer: rates and queues are those of the last one."""
    link = only_link(pair.prefill)
    return link.goodput_bytes_s > 0 and link.queued_bytes == 0


def are_equally_connected(pair: Pair) -> bool:
    """Whether both sides know the same number of data connections; a new one is known to one of them first."""
    return only_link(pair.prefill).connections == only_link(pair.decode).connections > 0


def test_both_sides_count_the_same_bytes_and_know_their_peer(metered: Pair) -> None:
    """After a transfer both directions name the other engine, what was delivered and how fast, and nothing is left."""
    before = sum(link.delivered_bytes for link in statistics_of(metered.prefill).links)
    outcome = metered.move("counted", full_slots(SIZE_BYTES), SIZE_BYTES // CONFIG.slot_bytes * 16)
    assert isinstance(outcome, LoadComplete)
    metered.settle()
    metered.until(lambda: is_sampled_at_rest(metered) and are_equally_connected(metered))
    sending, receiving = only_link(metered.prefill), only_link(metered.decode)
    assert (sending.peer, sending.is_sending, receiving.peer, receiving.is_sending) == ("edge", True, "cloud", False)
    assert sending.delivered_bytes - before == SIZE_BYTES
    assert receiving.delivered_bytes == sending.delivered_bytes
    assert (sending.in_flight_bytes, sending.resent_bytes) == (0, 0)
    assert sending.active_s > 0
    assert sending.utilisation > 0
    metered.until(lambda: only_link(metered.decode).rtt_s and only_link(metered.prefill).rtt_s)


def test_a_slow_reader_shows_as_credit_stalls(metered: Pair) -> None:
    """An engine that does not take its pieces holds the link up: data waits, credit does not come, and it shows."""
    before = sum(link.credit_stall_s for link in statistics_of(metered.prefill).links)
    metered.decode.returns_slots = False
    metered.open("slow")
    metered.start("slow", 0, 16 * (CONFIG.receive_slots + 8))
    metered.prefill.stage("slow", full_slots((CONFIG.receive_slots + 8) * CONFIG.slot_bytes), metered.poll)
    metered.until(lambda: only_link(metered.prefill).credit_stall_s > before + 0.3)
    assert only_link(metered.prefill).queued_bytes > 0
    metered.decode.returns_slots = True
    metered.decode.return_slots()
    metered.end("slow", 16 * (CONFIG.receive_slots + 8))
    assert isinstance(metered.outcome("slow"), LoadComplete)
    metered.settle()
    stalled_s = only_link(metered.prefill).credit_stall_s
    assert isinstance(metered.move("quick", rows(32), 32), LoadComplete)
    assert only_link(metered.prefill).credit_stall_s < stalled_s + 0.3
