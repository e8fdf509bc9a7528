"""Two movers over a wide-area link with real kernel TCP: every byte arrives, whatever the network does meanwhile."""

import time
from collections.abc import Generator
from itertools import count
from pathlib import Path

import pytest

from prfaas.transport.messages import LoadComplete
from tests.transport.movers import CONFIG, Pieces, check_arrived, full_slots, outcome_of, rows
from tests.wan.pair import WanPair
from tests.wan.wan import Wan

# Together they watch a real link for twenty seconds; no unit test.
pytestmark = pytest.mark.slow

MIB = 1 << 20
MTU = 9000
_numbers = count()


def new_id() -> str:
    return f"wan-{next(_numbers)}"


def connect(pair: WanPair) -> None:
    """Make the session and its data connections before anything is counted."""
    assert isinstance(pair.move(new_id(), rows(32), 32), LoadComplete)


def moved(pair: WanPair, pieces: Pieces, name: str) -> None:
    """Move the pieces and check every byte."""
    num_tokens = sum(piece.count for piece, _ in pieces)
    outcome = pair.move(name, pieces, num_tokens)
    assert isinstance(outcome, LoadComplete), outcome
    assert outcome.cache_bytes == sum(len(data) for _, data in pieces)
    check_arrived(pair.decode, name, pieces)


def arrived_bytes(pair: WanPair, name: str) -> int:
    return sum(map(len, pair.decode.payloads.get(name, {}).values()))


def wait_s(seconds: float) -> Generator[None, None, None]:
    """Part of a scenario: let so much time pass."""
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        yield


def test_a_long_link_carries_every_byte_once(pair: WanPair, wan: Wan) -> None:
    """Over 30 ms the bytes arrive, none leaves twice, and the meter knows the round trip."""
    connect(pair)
    before = wan.counters()["cloud"].bytes
    moved(pair, full_slots(16 * MIB), new_id())
    link, sent = pair.link(), wan.counters()["cloud"].bytes - before
    # What the kernel sends again, on a machine where answers come late, is its own.
    assert sent - link.retransmitted_segments * MTU < 17 * MIB
    assert link.resent_bytes == 0
    assert link.min_rtt_s >= 0.030
    assert link.goodput_bytes_s > 0


def test_random_loss_over_a_very_long_link_is_healed_by_tcp(pair: WanPair, wan: Wan) -> None:
    """With 80 ms and 0.1 % loss the bytes arrive, and no frame has to leave twice: the kernel's segments do."""
    wan.set(rtt_ms=80, loss=0.001)
    connect(pair)
    moved(pair, full_slots(32 * MIB), new_id())
    link = pair.link()
    assert link.resent_bytes == 0
    assert link.min_rtt_s >= 0.080
    assert link.retransmitted_segments > 0


def test_a_window_too_small_for_the_path_gets_more_connections(wan: Wan) -> None:
    """One connection moves a window a round trip; when that is all that frames wait for, there are more of them."""
    wan.set(rtt_ms=80)
    with wan.inside("cloud"):
        Path("/proc/sys/net/ipv4/tcp_wmem").write_text("4096 65536 1048576", encoding="ascii")
    pair = WanPair.at(wan, data_connections=1, send_slots=1024, receive_slots=1024)
    try:
        connect(pair)
        assert pair.link().connections == 1
        moved(pair, full_slots(64 * MIB), new_id())
        link = pair.link()
        assert link.connections > 1
        assert link.resent_bytes == 0
    finally:
        pair.close()


def test_an_outage_of_three_seconds_delays_a_transfer_and_no_more(pair: WanPair, wan: Wan) -> None:
    """The transfer goes on where it was, in its session; at most what was in flight leaves twice."""
    connect(pair)
    name = new_id()

    def outage() -> Generator[None, None, None]:
        while arrived_bytes(pair, name) < 5 * MIB:
            yield
        wan.down()
        yield from wait_s(3.0)
        wan.up()

    pair.scenario = outage()
    moved(pair, full_slots(16 * MIB), name)
    assert wan.counters()["cloud"].lost > 0
    prefill = pair.figures(pair.prefill)
    assert (prefill.failed_saves, prefill.accepted_sessions) == (0, 1)
    assert prefill.resent_bytes <= CONFIG.receive_slots * CONFIG.slot_bytes


def test_a_rate_drop_to_a_twentieth_only_slows_a_transfer(pair: WanPair, wan: Wan) -> None:
    """The transfer ends, nothing is sent twice, and the meter has seen that the link is slower."""
    connect(pair)
    name, goodput_bytes_s = new_id(), 0.0
    moved(pair, full_slots(16 * MIB), new_id())
    goodput_bytes_s = pair.link().goodput_bytes_s

    def drop() -> Generator[None, None, None]:
        while arrived_bytes(pair, name) < 4 * MIB:
            yield
        wan.set(rate_mbit=10)

    pair.scenario = drop()
    moved(pair, full_slots(12 * MIB), name)
    link = pair.link()
    assert link.resent_bytes == 0
    assert link.goodput_bytes_s < 0.7 * goodput_bytes_s


def test_a_slow_reader_holds_the_link_up_and_loses_nothing(pair: WanPair) -> None:
    """An engine that takes nothing for a second after all slots are full stalls the credit; then everything arrives."""
    connect(pair)
    name = new_id()

    def pause() -> Generator[None, None, None]:
        while arrived_bytes(pair, name) < MIB:
            yield
        pair.decode.returns_slots = False
        while len(pair.decode.lent) < CONFIG.receive_slots:
            yield
        yield from wait_s(1.0)
        pair.decode.returns_slots = True
        pair.decode.return_slots()

    pair.scenario = pause()
    moved(pair, full_slots(16 * MIB), name)
    link = pair.link()
    assert link.credit_stall_s > 0.5
    assert link.resent_bytes == 0


def test_a_short_transfer_does_not_wait_for_a_long_one(pair: WanPair) -> None:
    """While 64 MiB cross, a short transfer that begins after 16 ends before half of the rest has arrived."""
    connect(pair)
    long_name, short_name = new_id(), new_id()
    pieces, passed = rows(16, row_bytes=256), [0]
    reserved = [pair.prefill.free_send.pop() for _ in pieces]

    def short() -> Generator[None, None, None]:
        while arrived_bytes(pair, long_name) < 16 * MIB:
            yield
        began_bytes = arrived_bytes(pair, long_name)
        pair.prefill.free_send += reserved
        pair.open(short_name)
        pair.start(short_name, 0, 16)
        pair.prefill.stage(short_name, pieces, lambda: None)
        pair.end(short_name, 16)
        while outcome_of(pair.decode.worker_heard, short_name) is None:
            yield
        passed[0] = arrived_bytes(pair, long_name) - began_bytes

    pair.scenario = short()
    moved(pair, full_slots(64 * MIB), long_name)
    assert isinstance(outcome_of(pair.decode.worker_heard, short_name), LoadComplete)
    assert passed[0] > 0
    assert passed[0] < 24 * MIB
