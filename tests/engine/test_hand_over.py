"""Save and load workers over caches of different block sizes: every byte that is needed, and no other, is moved."""

from dataclasses import replace

import pytest
import torch

from prfaas.clock import ManualClock
from prfaas.engine.layout import AttentionLayer
from prfaas.engine.load_worker import LAST_WORD_S, MOVER_GRACE_S
from prfaas.engine.load_writer import first_gap
from prfaas.engine.metadata import BlockIds, LoadCancel, SaveFinish, SaveStep
from prfaas.transport.messages import Cancel, HeldTokens, LoadFailed, LoadUsed, SaveClosed, SlotsDone, SlotsFree, Staged
from tests.engine.cache_fixtures import OPEN_WITHIN_S, STATE_BYTES, WINDOW, Cache, Wire, load_start

FULL, WINDOWED, STATES = 1, 3, (0, 2)


def make_wire(
    slot_bytes: int = 64, send_slots: int = 8, receive_slots: int = 8, clock: ManualClock | None = None
) -> Wire:
    caches = Cache(8, 4, 8, seed=1), Cache(5, 4, 16, seed=2)
    return Wire(*caches, slot_bytes, send_slots, receive_slots, clock or ManualClock())


def assert_handed_over(wire: Wire, num_tokens: int, p_blocks: BlockIds, d_blocks: BlockIds, held: int = 0) -> None:
    for token in range(held, num_tokens):
        assert wire.prefill.row(FULL, p_blocks, token) == wire.decode.row(FULL, d_blocks, token)
    for token in range(max(held, (num_tokens - WINDOW + 1) // 4 * 4, 0), num_tokens):
        assert wire.prefill.row(WINDOWED, p_blocks, token) == wire.decode.row(WINDOWED, d_blocks, token)
    for layer in STATES:
        assert wire.prefill.state(layer, p_blocks, num_tokens) == wire.decode.state(layer, d_blocks, num_tokens)


@pytest.mark.parametrize("num_tokens", [1, 4, 7, 8, 9, 16, 29, 37])
@pytest.mark.parametrize("chunk", [3, 8, 64])
def test_every_row_and_state_arrives(num_tokens: int, chunk: int) -> None:
    """Whatever the length and the chunking, the decode side ends up with the prefill side's bytes."""
    wire = make_wire()
    p_blocks, d_blocks = wire.prefill.blocks_for(num_tokens, 3), wire.decode.blocks_for(num_tokens, 2)
    wire.load.start(load_start(num_tokens, d_blocks))
    wire.run_prefill(num_tokens, [*range(chunk, num_tokens, chunk), num_tokens], p_blocks)
    assert wire.load.take_results() == ({"d"}, set())
    assert_handed_over(wire, num_tokens, p_blocks, d_blocks)
    assert wire.save.free_slots == wire.send_slots
    assert len(wire.free_receive_slots) == wire.receive_slots


def test_nothing_outside_the_request_blocks_is_written() -> None:
    """Blocks of other requests keep their bytes."""
    wire = make_wire()
    before = wire.decode.full.clone(), wire.decode.window.clone(), [s.clone() for s in wire.decode.states]
    p_blocks, d_blocks = wire.prefill.blocks_for(29, 3), wire.decode.blocks_for(29, 2)
    wire.load.start(load_start(29, d_blocks))
    wire.run_prefill(29, [29], p_blocks)
    others = [b for b in range(64) if b not in d_blocks[0]]
    assert torch.equal(wire.decode.full[others], before[0][others])
    others = [b for b in range(64) if b not in d_blocks[1]]
    assert torch.equal(wire.decode.window[others], before[1][others])
    for state, old in zip(wire.decode.states, before[2], strict=True):
        others = [b for b in range(64) if b not in d_blocks[2]]
        assert torch.equal(state[others], old[others])


def test_held_rows_are_neither_sent_nor_written() -> None:
    """What the decode side holds stays as it is there and takes no slot on the way."""
    wire = make_wire()
    p_blocks, d_blocks = wire.prefill.blocks_for(29, 3), wire.decode.blocks_for(29, 2)
    held = wire.decode.row(FULL, d_blocks, 14)
    wire.save.begin_step([SaveStep("p", "t", 0, 1, 29, p_blocks)])
    wire.save.end_step()
    wire.from_save.clear()
    wire.save.heard(HeldTokens("t", 15))
    wire.load.start(load_start(29, d_blocks, held_tokens=15))
    wire.run_prefill(29, [29], p_blocks, start=1)
    assert all(piece.first >= 15 for piece in wire.pieces if piece.layer == FULL)
    assert wire.decode.row(FULL, d_blocks, 14) == held
    assert wire.load.take_results() == ({"d"}, set())
    assert_handed_over(wire, 29, p_blocks, d_blocks, held=15)


def test_rows_that_straddle_held_tokens_are_written_from_there_on() -> None:
    """A piece that begins below the held tokens leaves the shared block alone."""
    wire = make_wire(slot_bytes=1024)
    p_blocks, d_blocks = wire.prefill.blocks_for(29, 3), wire.decode.blocks_for(29, 2)
    held = wire.decode.row(FULL, d_blocks, 9)
    wire.load.start(load_start(29, d_blocks, held_tokens=10))
    wire.run_prefill(29, [29], p_blocks)
    assert wire.decode.row(FULL, d_blocks, 9) == held
    assert_handed_over(wire, 29, p_blocks, d_blocks, held=10)


def test_cached_tokens_leave_with_their_layer_and_not_before() -> None:
    """Another request of the same step may still be computing the cached blocks, so nothing is read before it has."""
    wire = make_wire(send_slots=64, receive_slots=64)
    wire.load.start(load_start(29, wire.decode.blocks_for(29, 2)))
    wire.save.begin_step([SaveStep("p", "t", 16, 29, 29, wire.prefill.blocks_for(29, 3))])
    wire.deliver()
    assert wire.pieces == []
    wire.save.after_layer("layers.1.full")
    wire.deliver()
    assert sum(piece.count for piece in wire.pieces if piece.layer == FULL) == 29


def test_the_word_of_a_started_load_is_kept_until_the_first_step() -> None:
    """The decode side may be ready before the prefill has begun: what it holds is not copied."""
    wire = make_wire(send_slots=64, receive_slots=64)
    wire.started(held_tokens=15)
    wire.step(SaveStep("p", "t", 0, 20, 29, wire.prefill.blocks_for(29, 3)))
    assert min(piece.first for piece in wire.pieces if piece.layer == FULL) == 15


def test_a_transfer_closed_before_its_first_step_copies_nothing() -> None:
    """When the decode side has gone before the prefill begins, nothing is copied and no block is kept."""
    wire = make_wire()
    wire.save.heard(SaveClosed("t", "gone"))
    wire.step(SaveStep("p", "t", 0, 29, 29, wire.prefill.blocks_for(29, 3)))
    assert wire.pieces == []
    assert wire.finish(steps=1) == {"p"}


def test_the_block_in_which_a_window_begins_arrives_whole() -> None:
    """A later request may hit that block and reads rows of it that this one does not need."""
    wire = make_wire()
    p_blocks, d_blocks = wire.prefill.blocks_for(31, 3), wire.decode.blocks_for(31, 2)
    wire.load.start(load_start(31, d_blocks))
    wire.run_prefill(31, [31], p_blocks)
    first_row = (31 - WINDOW + 1) // 4 * 4
    assert first_row < 31 - WINDOW + 1
    assert wire.decode.row(WINDOWED, d_blocks, first_row) == wire.prefill.row(WINDOWED, p_blocks, first_row)


def test_a_finished_save_that_nobody_starts_gives_its_blocks_back() -> None:
    """A cache larger than its share of staging does not keep its blocks for a decode side that never comes."""
    wire = make_wire(send_slots=2)
    wire.step(SaveStep("p", "t", 0, 37, 37, wire.prefill.blocks_for(37, 3)))
    wire.save.finish([SaveFinish("p", "t", is_aborted=False, timeout_s=60)])
    wire.clock.advance(OPEN_WITHIN_S)
    assert wire.save.take_finished() == set()
    wire.clock.advance(0.1)
    assert wire.save.take_finished() == {"p"}


def test_a_copy_that_fails_gives_up_the_transfer_and_keeps_the_slots() -> None:
    """A block list that cannot be right ends this transfer; its slots come back and the engine goes on."""
    wire = make_wire()
    full, window, state = wire.prefill.blocks_for(29, 3)
    wire.save.begin_step([SaveStep("p", "t", 0, 29, 29, (full[:1], window, state))])
    wire.save.after_layer("layers.1.full")
    wire.save.end_step()
    assert any(isinstance(message, Cancel) for message in wire.from_save)
    wire.load.start(load_start(29, wire.decode.blocks_for(29, 2)))
    wire.deliver()
    assert wire.save.free_slots == wire.send_slots
    assert wire.finish(steps=1) == {"p"}


def test_states_below_an_attention_layer_leave_with_it() -> None:
    """In the last chunk a recurrent state is on its way before the forward pass ends."""
    wire = make_wire(send_slots=64, receive_slots=64)
    wire.save.begin_step([SaveStep("p", "t", 0, 20, 20, wire.prefill.blocks_for(20, 3))])
    wire.load.start(load_start(20, wire.decode.blocks_for(20, 2)))
    wire.save.after_layer("layers.1.full")
    wire.deliver()
    assert {piece.layer for piece in wire.pieces} == {0, FULL}


def test_a_state_beside_an_attention_layer_waits_for_the_end() -> None:
    """What shares a layer with the attention may be computed after it, whatever the order of the names."""
    wire = make_wire()
    names = ("layers.0.a_mixer", "layers.0.attention", "layers.1.a_mixer", "layers.1.attention")
    layout = replace(wire.prefill.layout, names=names)
    first, second = (layer for layer in layout.layers if isinstance(layer, AttentionLayer))
    assert (layout.finished_at(first), layout.finished_at(second)) == (0, 2)


def test_states_of_an_unfinished_prefill_stay() -> None:
    """A state is valid at one token count only, so no chunk but the last sends it."""
    wire = make_wire(send_slots=64, receive_slots=64)
    wire.step(SaveStep("p", "t", 0, 19, 20, wire.prefill.blocks_for(20, 3)))
    assert not {piece.layer for piece in wire.pieces} & set(STATES)


def test_full_staging_delays_but_loses_nothing() -> None:
    """With a single slot everything arrives, and the blocks are kept until the last byte is out."""
    wire = make_wire(send_slots=1)
    p_blocks, d_blocks = wire.prefill.blocks_for(37, 3), wire.decode.blocks_for(37, 2)
    wire.load.start(load_start(37, d_blocks))
    wire.step(SaveStep("p", "t", 0, 37, 37, p_blocks))
    wire.save.finish([SaveFinish("p", "t", is_aborted=False, timeout_s=60)])
    assert wire.save.take_finished() == set()
    assert wire.finish(steps=100) == {"p"}
    assert wire.load.take_results() == ({"d"}, set())
    assert_handed_over(wire, 37, p_blocks, d_blocks)


def test_transfers_nobody_has_started_leave_half_of_the_slots() -> None:
    """One that waits for blocks on the other side cannot keep the slots that a started one needs."""
    wire = make_wire(send_slots=8)
    wire.save.begin_step([SaveStep("p", "waiting", 0, 37, 37, wire.prefill.blocks_for(37, 3))])
    wire.save.end_step()
    assert wire.save.free_slots == 4
    wire.save.begin_step([SaveStep("q", "t", 0, 37, 37, wire.prefill.blocks_for(37, 3))])
    assert wire.save.free_slots == 4
    wire.started()
    wire.save.end_step()
    assert wire.save.free_slots == 0


def test_a_started_transfer_on_a_slow_link_leaves_the_others_their_share() -> None:
    """With two transfers neither keeps more than half of the slots, although the first one's never come back."""
    wire = make_wire(send_slots=8)
    for transfer_id in ("slow", "t"):
        wire.save.heard(HeldTokens(transfer_id, 0))
    blocks = wire.prefill.blocks_for(37, 3)
    wire.save.begin_step([SaveStep(name, name, 0, 37, 37, blocks) for name in ("slow", "t")])
    wire.save.end_step()
    staged = [message for message in wire.from_save if isinstance(message, Staged)]
    assert {m.transfer_id: len(m.pieces) for m in staged} == {"slow": 4, "t": 4}
    alone = make_wire(send_slots=8)
    alone.started()
    alone.save.begin_step([SaveStep("p", "t", 0, 37, 37, blocks)])
    alone.save.end_step()
    assert alone.save.free_slots == 0


def test_every_transfer_gets_on_when_there_are_fewer_slots_than_transfers() -> None:
    """A single slot goes round, step by step."""
    wire, names = make_wire(send_slots=1), ("a", "b", "c")
    for name in names:
        wire.save.heard(HeldTokens(name, 0))
    blocks = wire.prefill.blocks_for(37, 3)
    wire.save.begin_step([SaveStep(name, name, 0, 37, 37, blocks) for name in names])
    wire.save.finish([SaveFinish(name, name, is_aborted=False, timeout_s=60) for name in names])
    for _ in names:
        wire.save.end_step()
        wire.save.heard(SlotsFree([0]))
    assert [message.transfer_id for message in wire.from_save if isinstance(message, Staged)] == ["a", "b", "c"]


def test_slots_that_come_back_within_a_step_take_rows_of_layers_passed() -> None:
    """What found no slot behind its own layer leaves behind a later one, before the forward pass ends."""
    wire = make_wire(send_slots=2)
    wire.started()
    wire.save.begin_step([SaveStep("p", "t", 0, 10, 37, wire.prefill.blocks_for(37, 3))])
    wire.save.after_layer("layers.1.full")
    assert wire.save.is_short
    wire.save.heard(SlotsFree([0, 1]))
    wire.save.after_layer("layers.3.window")
    rows = [(p.first, p.first + p.count) for m in wire.from_save if isinstance(m, Staged) for p in m.pieces]
    assert first_gap(rows, 0, 10) is None


def test_a_step_that_broke_off_leaves_nothing_to_the_next() -> None:
    """A request whose step did not end properly is not copied in a step that leaves it out."""
    wire = make_wire(send_slots=64)
    wire.save.begin_step([SaveStep("p", "t", 0, 10, 37, wire.prefill.blocks_for(37, 3))])
    wire.save.begin_step([])
    wire.save.after_layer("layers.1.full")
    assert wire.from_save == []


def test_blocks_are_not_read_between_steps() -> None:
    """A request that a step leaves out may have lost its blocks: nothing of it is copied in that step."""
    wire = make_wire(send_slots=1)
    wire.save.begin_step([SaveStep("p", "t", 0, 30, 37, wire.prefill.blocks_for(37, 3))])
    wire.save.end_step()
    wire.deliver()
    count = len(wire.from_save)
    wire.save.end_step()
    assert len(wire.from_save) == count


def test_preemption_resumes_where_copying_stopped() -> None:
    """After a restart in other blocks, rows already sent are not sent again and the rest comes from the new blocks."""
    wire = make_wire(send_slots=64, receive_slots=64)
    first, second = wire.prefill.blocks_for(29, 3), wire.prefill.blocks_for(29, 12)
    d_blocks = wire.decode.blocks_for(29, 2)
    for token in range(29):
        wire.prefill.full[second[0][token // 8], :, token % 8] = wire.prefill.full[first[0][token // 8], :, token % 8]
    wire.load.start(load_start(29, d_blocks))
    wire.step(SaveStep("p", "t", 0, 20, 29, first))
    wire.prefill.full[list(first[0])] = 0
    wire.run_prefill(29, [10, 29], second)
    rows = sorted((piece.first, piece.first + piece.count) for piece in wire.pieces if piece.layer == FULL)
    assert first_gap(rows, 0, 29) is None
    assert sum(stop - start for start, stop in rows) == 29
    assert wire.load.take_results() == ({"d"}, set())
    assert_handed_over(wire, 29, second, d_blocks)


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_a_missing_layer_fails_the_load(layer: int) -> None:
    """One layer's bytes missing is a failed load, whatever the manifest says."""
    wire = make_wire(send_slots=64, receive_slots=64)
    wire.load.start(load_start(20, wire.decode.blocks_for(20, 2)))
    wire.save.begin_step([SaveStep("p", "t", 0, 20, 20, wire.prefill.blocks_for(20, 3))])
    wire.save.end_step()
    wire.deliver(drop=layer)
    assert wire.load.take_results() == ({"d"}, {"d"})
    assert len(wire.free_receive_slots) == 64


def test_a_state_at_another_token_count_fails_the_load() -> None:
    """A state off by one token is refused."""
    wire = make_wire(send_slots=64, receive_slots=64)
    wire.load.start(load_start(21, wire.decode.blocks_for(21, 2)))
    wire.run_prefill(20, [20], wire.prefill.blocks_for(20, 3))
    assert wire.load.take_results() == ({"d"}, {"d"})


def test_tail_rows_without_tokens_are_zeroed() -> None:
    """Rows of our last block that belong to no token hold zeros, not the bytes of an earlier request."""
    wire = make_wire()
    d_blocks = wire.decode.blocks_for(19, 2)
    wire.load.start(load_start(19, d_blocks))
    wire.run_prefill(19, [19], wire.prefill.blocks_for(19, 3))
    assert all(not any(wire.decode.row(FULL, d_blocks, token)) for token in (19,))
    assert all(not any(wire.decode.row(WINDOWED, d_blocks, token)) for token in (19,))


def test_pieces_before_the_order_to_start_are_kept() -> None:
    """The mover may be quicker than the scheduler's order: nothing is lost and nothing written too early."""
    wire = make_wire(send_slots=64, receive_slots=64)
    d_blocks = wire.decode.blocks_for(20, 2)
    before = wire.decode.full.clone()
    wire.run_prefill(20, [20], p_blocks := wire.prefill.blocks_for(20, 3))
    assert torch.equal(wire.decode.full, before)
    wire.load.start(load_start(20, d_blocks))
    wire.write()
    assert wire.load.take_results() == ({"d"}, set())
    assert len(wire.free_receive_slots) == 64
    assert_handed_over(wire, 20, p_blocks, d_blocks)


def arrive_at_once(wire: Wire, num_tokens: int) -> BlockIds:
    """A load whose whole cache has arrived and is not written yet; returns the prefill side's blocks."""
    wire.load.start(load_start(num_tokens, wire.decode.blocks_for(num_tokens, 2)))
    wire.is_writing = False
    wire.run_prefill(num_tokens, [num_tokens], p_blocks := wire.prefill.blocks_for(num_tokens, 3))
    wire.is_writing = True
    return p_blocks


class WorkingClock(ManualClock):
    """Each look at it shows that a second has passed, as if the work in between had taken it."""

    def now_s(self) -> float:
        self.advance(1.0)
        return super().now_s()


def test_slots_of_one_step_come_back_together() -> None:
    """However many messages brought the pieces, the mover hears once that their slots are free."""
    wire = make_wire(send_slots=64, receive_slots=64)
    arrive_at_once(wire, 29)
    assert not any(isinstance(message, SlotsDone) for message in wire.from_load)
    wire.load.write()
    assert len([message for message in wire.from_load if isinstance(message, SlotsDone)]) == 1
    wire.take_back_slots()
    assert len(wire.free_receive_slots) == 64


def test_a_burst_is_written_over_several_steps() -> None:
    """A step writes for as long as it may and at least one piece; the load ends behind its last piece."""
    wire = make_wire(send_slots=64, receive_slots=64, clock=WorkingClock())
    p_blocks = arrive_at_once(wire, 29)
    wire.load.write(budget_s=3.5)
    wire.take_back_slots()
    left = 64 - len(wire.free_receive_slots)
    assert len(wire.pieces) - left == 4
    for _ in range(left - 1):
        wire.load.write(budget_s=0.0)
    assert wire.load.take_results() == (set(), set())
    wire.load.write(budget_s=0.0)
    wire.take_back_slots()
    assert wire.load.take_results() == ({"d"}, set())
    assert len(wire.free_receive_slots) == 64
    assert_handed_over(wire, 29, p_blocks, wire.decode.blocks_for(29, 2))


@pytest.mark.parametrize("end", [LoadCancel("d", "t"), LoadFailed("t", "corrupt")], ids=["cancelled", "failed"])
def test_pieces_that_wait_are_dropped_when_their_load_ends(end: LoadCancel | LoadFailed) -> None:
    """Nothing of a cancelled or failed load is written any more, and its slots come back."""
    wire = make_wire(send_slots=64, receive_slots=64)
    arrive_at_once(wire, 29)
    before = wire.decode.full.clone()
    wire.load.cancel(end) if isinstance(end, LoadCancel) else wire.load.heard(end)
    wire.write()
    assert torch.equal(wire.decode.full, before)
    assert len(wire.free_receive_slots) == 64


def test_tails_are_zeroed_before_the_last_piece() -> None:
    """What can be done while pieces are on their way does not delay the end of the load."""
    wire = make_wire()
    d_blocks = wire.decode.blocks_for(19, 2)
    wire.load.start(load_start(19, d_blocks))
    assert not any(wire.decode.row(FULL, d_blocks, 19) + wire.decode.row(WINDOWED, d_blocks, 19))


def test_cancel_stops_writing_and_reports_once() -> None:
    """After an abort no byte is written, slots come back, and vLLM hears of the request exactly once."""
    wire = make_wire(send_slots=64, receive_slots=64)
    d_blocks = wire.decode.blocks_for(29, 2)
    wire.load.start(load_start(29, d_blocks))
    wire.step(SaveStep("p", "t", 0, 8, 29, p_blocks := wire.prefill.blocks_for(29, 3)))
    wire.load.cancel(LoadCancel("d", "t"))
    before = wire.decode.full.clone()
    wire.step(SaveStep("p", "t", 8, 20, 29, p_blocks))
    assert wire.load.take_results() == (set(), set())
    wire.load.heard(LoadFailed("t", "the mover's last word"))
    assert wire.load.take_results() == ({"d"}, {"d"})
    wire.step(SaveStep("p", "t", 20, 29, 29, p_blocks))
    assert torch.equal(wire.decode.full, before)
    assert len(wire.free_receive_slots) == 64
    wire.load.cancel(LoadCancel("d", "t"))
    wire.load.heard(LoadFailed("t", "late news"))
    assert wire.load.take_results() == (set(), set())


def test_a_cancel_without_its_start_is_reported_all_the_same() -> None:
    """vLLM waits for the report of a load whose order to start was lost."""
    wire = make_wire()
    wire.load.cancel(LoadCancel("d", "t"))
    assert wire.load.take_results() == ({"d"}, {"d"})


def test_a_cancel_without_its_start_gives_the_slots_back() -> None:
    """Pieces that wait for an order that never comes return to the mover, which hears that the load is over."""
    wire = make_wire(send_slots=64, receive_slots=64)
    wire.step(SaveStep("p", "t", 0, 20, 20, wire.prefill.blocks_for(20, 3)))
    wire.load.cancel(LoadCancel("d", "t"))
    wire.write()
    assert len(wire.free_receive_slots) == 64
    assert [type(message) for message in wire.from_load] == [Cancel]
    assert wire.load.is_idle


def test_a_failure_before_the_order_to_start_is_remembered() -> None:
    """A transfer that failed while its blocks were being allocated is reported as failed at once."""
    wire = make_wire()
    wire.load.heard(LoadFailed("t", "the peer refused"))
    wire.load.start(load_start(29, wire.decode.blocks_for(29, 2)))
    assert wire.load.take_results() == ({"d"}, {"d"})
    assert wire.load.is_idle


def test_a_silent_mover_fails_the_load_at_its_deadline() -> None:
    """The worker's own deadline ends a load that nobody speaks of any more."""
    wire = make_wire()
    wire.load.start(load_start(29, wire.decode.blocks_for(29, 2)))
    wire.clock.advance(60 + MOVER_GRACE_S)
    wire.load.expire()
    assert wire.load.take_results() == (set(), set())
    wire.clock.advance(0.1)
    wire.load.expire()
    assert wire.load.take_results() == (set(), set())
    wire.clock.advance(LAST_WORD_S + 0.1)
    wire.load.expire()
    assert wire.load.take_results() == ({"d"}, {"d"})
    assert LoadUsed("t", ok=False, reason="the deadline has passed") in wire.from_load


def test_a_closed_save_gives_its_blocks_back() -> None:
    """When the decode side is gone the prefill side copies nothing more and keeps no block."""
    wire = make_wire(send_slots=1)
    wire.save.begin_step([SaveStep("p", "t", 0, 37, 37, wire.prefill.blocks_for(37, 3))])
    wire.save.end_step()
    wire.save.finish([SaveFinish("p", "t", is_aborted=False, timeout_s=60)])
    assert wire.save.take_finished() == set()
    wire.save.heard(SaveClosed("t", "the decode side is gone"))
    assert wire.save.take_finished() == {"p"}


def test_an_aborted_save_gives_its_blocks_back_at_once() -> None:
    """An aborted prefill has nothing left to hand over."""
    wire = make_wire(send_slots=1)
    wire.save.begin_step([SaveStep("p", "t", 0, 8, 37, wire.prefill.blocks_for(37, 3))])
    wire.save.end_step()
    wire.save.finish([SaveFinish("p", "t", is_aborted=True, timeout_s=60)])
    assert wire.save.take_finished() == {"p"}


def test_state_pieces_cover_every_byte() -> None:
    """A state larger than a slot is cut without a gap."""
    layer = make_wire().prefill.layout.states[0]
    for tensor, size in enumerate(STATE_BYTES):
        ranges = [(p.first, p.first + p.length) for p in layer.pieces(7) if p.index == tensor]
        assert first_gap(ranges, 0, size) is None
        assert sum(stop - start for start, stop in ranges) == size
