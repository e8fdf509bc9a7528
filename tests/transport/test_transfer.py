"""Two real mover processes on loopback that move cache the way engines do."""

import os
import time
from itertools import count
from pathlib import Path

import pytest

from prfaas.transport.messages import (
    Arrived,
    Cancel,
    HeldTokens,
    LoadComplete,
    LoadFailed,
    OfferSave,
    OpenLoad,
    SaveClosed,
    SlotPiece,
    Staged,
)
from prfaas.types import Part
from tests.transport.movers import (
    CONFIG,
    Pair,
    TinyEngine,
    check_arrived,
    full_slots,
    outcome_of,
    rows,
    statistics_of,
)

_numbers = count()
MAX_GROWTH_BYTES = 4 << 20
"""What allocators and gRPC move by on their own; a kilobyte kept of each transfer would be more."""
pytestmark = pytest.mark.parametrize("shared_pair", ["tcp", "tls", "grpc", "grpc-tls"], indirect=True)


def new_id() -> str:
    return f"transfer-{next(_numbers)}"


def test_every_byte_arrives_and_both_engines_hear_the_end(pair: Pair) -> None:
    """Rows and state arrive exactly; worker and scheduler hear LoadComplete, the prefill side SaveClosed."""
    name, pieces = new_id(), rows(200)
    outcome = pair.move(name, pieces, 200)
    assert isinstance(outcome, LoadComplete)
    assert (outcome.num_tokens, outcome.cache_bytes) == (200, sum(len(data) for _, data in pieces))
    check_arrived(pair.decode, name, pieces)
    pair.until(lambda: outcome_of(pair.decode.scheduler_heard, name))
    pair.until(lambda: SaveClosed(name, "") in pair.prefill.worker_heard)


def test_64_mib_pass_through_4_mib_of_staging(pair: Pair) -> None:
    """A transfer much larger than both arenas arrives exactly."""
    name = new_id()
    pieces = full_slots(64 << 20)
    outcome = pair.move(name, pieces, 16 * len(pieces))
    assert isinstance(outcome, LoadComplete)
    assert outcome.cache_bytes == 64 << 20
    check_arrived(pair.decode, name, pieces)


def test_held_rows_do_not_cross(pair: Pair) -> None:
    """Rows the decode side holds are not sent, state is; the prefill worker is told."""
    name, pieces = new_id(), rows(100)
    assert isinstance(pair.move(name, pieces, 100, held=64), LoadComplete)
    wanted = [(p, d) for p, d in pieces if p.part == Part.STATE or p.first + p.count > 64]
    check_arrived(pair.decode, name, wanted)
    assert HeldTokens(name, 64) in pair.prefill.worker_heard


def test_the_order_in_which_the_engines_act_does_not_matter(pair: Pair) -> None:
    """Everything staged and ended before the peer opens, and the peer first with the offer much later."""
    pieces = rows(40)
    early, late = new_id(), new_id()
    pair.prefill.stage(early, pieces, pair.poll)
    pair.end(early, 40)
    pair.open(early)
    pair.start(early, 0, 40)
    pair.decode.scheduler.send(OpenLoad(late, "secret", pair.remote, 30.0))
    pair.start(late, 0, 40)
    assert isinstance(pair.outcome(early), LoadComplete)
    pair.prefill.scheduler.send(OfferSave(late, "secret", 40, 30.0))
    pair.prefill.stage(late, pieces, pair.poll)
    pair.end(late, 40)
    assert isinstance(pair.outcome(late), LoadComplete)
    for name in (early, late):
        check_arrived(pair.decode, name, pieces)


def test_bytes_that_arrive_before_the_end_of_the_prefill_are_early(pair: Pair) -> None:
    """On one host the clock estimate is good enough to tell rows sent before the end from state sent after it."""
    name, pieces = new_id(), rows(32)
    pair.open(name)
    pair.start(name, 0, 32)
    pair.prefill.stage(name, [p for p in pieces if p[0].part == Part.KV], pair.poll)
    pair.until(lambda: len(pair.decode.payloads.get(name, {})) == 8)
    end_s = time.monotonic()
    pair.until(lambda: time.monotonic() > end_s + 0.5)  # many times what the estimate is off by on a busy machine
    pair.prefill.stage(name, [p for p in pieces if p[0].part == Part.STATE], pair.poll)
    pair.end(name, 32)
    outcome = pair.outcome(name)
    assert isinstance(outcome, LoadComplete)
    assert outcome.early_bytes >= 8 * 16 * 1024


def test_a_full_receive_arena_loses_nothing(pair: Pair) -> None:
    """While the worker returns no slots the transfer rests; it goes on when they come back."""
    name, pieces = new_id(), rows(2000)
    assert len(pieces) > 3 * 64
    pair.decode.returns_slots = False
    pair.open(name)
    pair.start(name, 0, 2000)

    full_arenas = []

    def return_when_full() -> None:
        pair.poll()
        if len(pair.decode.lent) == CONFIG.receive_slots:
            full_arenas.append(len(pair.decode.payloads[name]))
            pair.decode.return_slots()

    pair.prefill.stage(name, pieces, return_when_full)
    assert full_arenas == sorted(full_arenas)
    assert len(full_arenas) >= 3
    pair.end(name, 2000)
    pair.decode.returns_slots = True
    pair.decode.return_slots()
    assert isinstance(pair.outcome(name), LoadComplete)
    check_arrived(pair.decode, name, pieces)


def test_a_short_transfer_passes_a_long_one(pair: Pair) -> None:
    """Transfers take turns: one that starts in the middle of a long one ends before it."""
    long, short, pieces = new_id(), new_id(), rows(4000)
    pair.open(long)
    pair.start(long, 0, 4000)
    pair.prefill.stage(long, pieces[: len(pieces) // 2], pair.poll)
    moved = pair.move(short, rows(16), 16)
    assert isinstance(moved, LoadComplete)
    assert outcome_of(pair.decode.worker_heard, long) is None
    pair.prefill.stage(long, pieces[len(pieces) // 2 :], pair.poll)
    pair.end(long, 4000)
    assert isinstance(pair.outcome(long), LoadComplete)


def test_cancelling_the_load_in_its_middle_frees_both_sides(pair: Pair) -> None:
    """The decode side gives up: LoadFailed, no Arrived after it, and the prefill side's slots come home."""
    name, pieces = new_id(), rows(200)
    pair.open(name)
    pair.start(name, 0, 200)
    pair.prefill.stage(name, pieces[:20], pair.poll)
    pair.until(lambda: name in pair.decode.payloads)
    pair.decode.mover.channel.send(Cancel(name, "client gone"))
    pair.decode.scheduler.send(Cancel(name, "client gone"))
    outcome = pair.outcome(name)
    assert isinstance(outcome, LoadFailed)
    assert "client gone" in outcome.reason
    pair.until(lambda: any(isinstance(m, SaveClosed) and m.transfer_id == name for m in pair.prefill.worker_heard))
    pair.prefill.stage(name, pieces[20:], pair.poll)
    pair.settle()
    heard = [m for m in pair.decode.worker_heard if isinstance(m, Arrived | LoadFailed) and m.transfer_id == name]
    assert [m for m in heard if isinstance(m, LoadFailed)] == heard[-1:]


def test_cancelling_the_save_in_its_middle_fails_the_load(pair: Pair) -> None:
    """The prefill side gives up: the decode side hears why."""
    name, pieces = new_id(), rows(200)
    pair.open(name)
    pair.start(name, 0, 200)
    pair.prefill.stage(name, pieces[:20], pair.poll)
    pair.prefill.scheduler.send(Cancel(name, "preempted for good"))
    outcome = pair.outcome(name)
    assert isinstance(outcome, LoadFailed)
    assert "preempted for good" in outcome.reason


def test_cancelling_what_is_unknown_is_harmless(pair: Pair) -> None:
    """On either side, before anything was opened; pieces of a cancelled id come back at once."""
    name = new_id()
    for engine in (pair.prefill, pair.decode):
        engine.scheduler.send(Cancel(name, "never heard of"))
        engine.mover.channel.send(Cancel(name, "never heard of"))
    pair.poll()
    pair.prefill.stage(name, rows(16), pair.poll)
    pair.settle()
    assert outcome_of(pair.decode.worker_heard, name) is None


def test_a_second_open_of_the_same_transfer_is_ignored(pair: Pair) -> None:
    """The first wins and completes once."""
    name, pieces = new_id(), rows(16)
    pair.decode.scheduler.send(OpenLoad(name, "secret", pair.remote, 30.0))
    pair.decode.scheduler.send(OpenLoad(name, "other", "127.0.0.1:1", 0.0))
    assert isinstance(pair.move(name, pieces, 16), LoadComplete)
    pair.settle()
    assert [m for m in pair.decode.worker_heard if isinstance(m, LoadFailed) and m.transfer_id == name] == []


def test_a_wrong_secret_and_an_unknown_transfer_look_the_same(pair: Pair) -> None:
    """Both fail with the same words; the offer with the right secret is untouched by the wrong one."""
    offered, unknown, pieces = new_id(), new_id(), rows(16)
    pair.prefill.scheduler.send(OfferSave(offered, "right", 16, 30.0))
    for name in (offered, unknown):
        pair.decode.scheduler.send(OpenLoad(name, "wrong", pair.remote, 30.0))
    first, second = pair.outcome(offered), pair.outcome(unknown)
    assert isinstance(first, LoadFailed)
    assert isinstance(second, LoadFailed)
    assert first.reason == second.reason
    assert "unknown transfer" in first.reason
    pair.decode.worker_heard.clear()
    pair.decode.scheduler.send(OpenLoad(offered, "right", pair.remote, 30.0))
    pair.start(offered, 0, 16)
    pair.prefill.stage(offered, pieces, pair.poll)
    pair.end(offered, 16)
    assert isinstance(pair.outcome(offered), LoadComplete)


@pytest.mark.parametrize("is_offered_first", [True, False])
def test_caches_of_different_adapters_do_not_cross(pair: Pair, is_offered_first: bool) -> None:
    """Who knows the secret and computes with another adapter hears so at once; nothing is lent, nothing is left."""
    name = new_id()
    offer = OfferSave(name, "secret", 16, 30.0, adapter="1f2e")
    load = OpenLoad(name, "secret", pair.remote, 30.0, adapter="3d4c")
    if is_offered_first:
        pair.prefill.scheduler.send(offer)
    pair.decode.scheduler.send(load)
    pair.start(name, 0, 16)
    pair.prefill.stage(name, rows(16), pair.poll)
    pair.end(name, 16)
    if not is_offered_first:
        pair.prefill.scheduler.send(offer)
    outcome = pair.outcome(name)
    assert isinstance(outcome, LoadFailed)
    assert "the adapters differ: 1f2e at the prefill engine, 3d4c at the decode engine" in outcome.reason
    assert name not in pair.decode.payloads
    pair.settle()


def test_a_cache_of_the_same_adapter_crosses(pair: Pair) -> None:
    name, pieces = new_id(), rows(16)
    pair.prefill.scheduler.send(OfferSave(name, "secret", 16, 30.0, adapter="1f2e"))
    pair.decode.scheduler.send(OpenLoad(name, "secret", pair.remote, 30.0, adapter="1f2e"))
    pair.start(name, 0, 16)
    pair.prefill.stage(name, pieces, pair.poll)
    pair.end(name, 16)
    assert isinstance(pair.outcome(name), LoadComplete)
    check_arrived(pair.decode, name, pieces)


def test_a_load_fails_at_its_deadline(pair: Pair) -> None:
    """A prefill that never ends does not hold the request: both sides are free afterwards."""
    name = new_id()
    pair.open(name, timeout_s=0.3)
    pair.start(name, 0, 16)
    pair.prefill.stage(name, rows(16)[:3], pair.poll)
    outcome = pair.outcome(name)
    assert isinstance(outcome, LoadFailed)


def test_pieces_that_nobody_offers_come_back(pair: Pair) -> None:
    """Slots of a transfer that the scheduler never offers are freed after offer_wait_s."""
    pair.prefill.stage(new_id(), rows(16), pair.poll)
    pair.until(lambda: len(pair.prefill.free_send) == 64)


def test_a_piece_that_cannot_be_framed_fails_its_save_alone(pair: Pair) -> None:
    """A worker's mistake (an unknown layer) ends that transfer with a reason and nothing else."""
    name = new_id()
    pair.open(name)
    pair.start(name, 0, 16)
    slot = pair.prefill.free_send.pop()
    pair.prefill.mover.channel.send(Staged(name, [SlotPiece(99, Part.KV, 0, 0, 16, 64, slot)]))
    outcome = pair.outcome(name)
    assert isinstance(outcome, LoadFailed)
    assert "layer 99" in outcome.reason
    assert isinstance(pair.move(new_id(), rows(16), 16), LoadComplete)


def test_a_thousand_small_transfers_leave_nothing_behind(pair: Pair) -> None:
    """Descriptors stay flat over many transfers and the figures add up."""
    move_many(pair, 10)
    # A connection over which statistics were asked may still be among them.
    before = [_descriptors(engine) for engine in (pair.prefill, pair.decode)]
    completed = statistics_of(pair.decode).completed_loads
    move_many(pair, 1000)
    assert statistics_of(pair.decode).completed_loads == completed + 1000
    pair.settle()
    pair.until(lambda: _descriptors(pair.prefill) <= before[0] and _descriptors(pair.decode) <= before[1])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_thousand_transfers_take_no_more_memory_than_five_thousand(pair: Pair) -> None:
    """What movers remember of past transfers is bounded, and full long before the first half is over; no descriptor is
    left open."""
    move_many(pair, 5000)
    pair.settle()
    # A connection over which statistics were asked may still be among them.
    descriptors = [_descriptors(engine) for engine in (pair.prefill, pair.decode)]
    before = [_resident_bytes(engine) for engine in (pair.prefill, pair.decode)]
    move_many(pair, 5000)
    pair.settle()
    after = [_resident_bytes(engine) for engine in (pair.prefill, pair.decode)]
    grown = [new - old for new, old in zip(after, before, strict=True)]
    assert max(grown) < MAX_GROWTH_BYTES, grown
    pair.until(lambda: _descriptors(pair.prefill) <= descriptors[0] and _descriptors(pair.decode) <= descriptors[1])


def move_many(pair: Pair, transfers: int) -> None:
    """One small transfer after the other."""
    pieces = rows(16, layers=1, row_bytes=64)
    for _ in range(transfers):
        assert isinstance(pair.move(new_id(), pieces, 16), LoadComplete)
        for engine in (pair.prefill, pair.decode):
            engine.worker_heard.clear()
            engine.scheduler_heard.clear()
        pair.decode.payloads.clear()


def _descriptors(engine: TinyEngine) -> int:
    return len(os.listdir(f"/proc/{engine.mover.pid}/fd"))


def _resident_bytes(engine: TinyEngine) -> int:
    return int(Path(f"/proc/{engine.mover.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
