"""The prefill side of a transfer, without sockets."""

from dataclasses import replace

import pytest

from prfaas.types import Part, Piece
from prfaas.wire.actions import Close, FreeSlots, Send, TellHeld
from prfaas.wire.control import Abort, Accepted, Entry, Manifest, Start
from prfaas.wire.save import MAX_SENDS, TRANSITIONS, Save, SaveEvent, SaveState, StagedPiece

ROWS = StagedPiece(Piece(0, Part.KV, 0, 0, 16, 100), 0)
MORE_ROWS = StagedPiece(Piece(0, Part.KV, 0, 16, 4, 100), 1)
STATE = StagedPiece(Piece(1, Part.STATE, 0, 0, 0, 50), 2)


def opened() -> Save:
    save = Save("t", 10.0)
    save.offer("secret", 30.0)
    save.open(7)
    return save


def streaming() -> Save:
    save = opened()
    save.start(Start(7, 0, 20))
    return save


def send_all(save: Save) -> list[tuple[int, int]]:
    """Send every queued frame; return (sequence, slot)."""
    sent = []
    while save.has_frames:
        frame = save.next_frame()
        save.written(frame.slot)
        sent.append((frame.sequence, frame.slot))
    return sent


def test_nothing_is_sent_before_start() -> None:
    """Pieces wait in their slots until the decode side has blocks."""
    save = opened()
    save.stage([ROWS])
    assert not save.has_frames
    assert save.start(Start(7, 0, 20)) == [TellHeld(0)]
    assert send_all(save) == [(0, 0)]


def test_pieces_may_be_staged_before_the_offer() -> None:
    """The worker's socket may be faster than the scheduler's."""
    save = Save("t", 10.0)
    save.stage([ROWS])
    save.end(20, 5)
    save.offer("secret", 30.0)
    assert save.open(7) == [Send(Accepted(7))]
    actions = save.start(Start(7, 0, 20))
    assert actions == [TellHeld(0), Send(Manifest(7, 20, 1, 100, 5, (Entry(0, 1, 0, 0, 16),)))]


@pytest.mark.parametrize(("ours", "theirs"), [("1f2e", ""), ("", "1f2e"), ("1f2e", "3d4c")])
def test_a_cache_of_another_adapter_is_not_handed_over(ours: str, theirs: str) -> None:
    """A peer that knows the secret and computes with another adapter, or one where there is none, hears so at once."""
    save = Save("t", 10.0)
    save.stage([ROWS])
    save.offer("secret", 30.0, ours)
    (abort, *rest) = save.open(7, theirs)
    reason = f"the adapters differ: {ours or 'none'} at the prefill engine, {theirs or 'none'} at the decode engine"
    assert abort == Send(Abort(7, reason))
    assert rest == [FreeSlots((0,)), Close(reason)]
    assert save.start(Start(7, 0, 20)) == []


def test_held_rows_are_dropped_and_their_slots_freed() -> None:
    """Rows wholly below held_tokens are neither sent nor announced; state always is."""
    save = opened()
    save.stage([ROWS, STATE])
    assert save.start(Start(7, 16, 20)) == [TellHeld(16), FreeSlots((0,))]
    assert save.stage([MORE_ROWS, StagedPiece(replace(ROWS.piece, layer=1), 5)]) == [FreeSlots((5,))]
    assert send_all(save) == [(0, 2), (1, 1)]
    (manifest,) = save.end(20, 5)
    assert manifest == Send(Manifest(7, 20, 2, 150, 5, (Entry(0, 1, 0, 16, 20), Entry(1, 2, 0, 0, 50))))


def test_rows_that_straddle_held_tokens_are_sent_whole() -> None:
    """A piece with one row that is not held is needed."""
    save = opened()
    save.start(Start(7, 15, 20))
    assert save.stage([ROWS]) == []
    assert save.has_frames


def test_the_manifest_merges_neighbouring_pieces() -> None:
    """One gapless range per tensor, however it was cut."""
    save = streaming()
    save.stage([MORE_ROWS, ROWS])
    (action,) = save.end(20, 5)
    assert isinstance(action, Send)
    assert isinstance(action.message, Manifest)
    assert action.message.entries == (Entry(0, 1, 0, 0, 20),)


def test_slots_stay_lent_until_acknowledged() -> None:
    """Sending does not free a slot: the frame may have to be sent again."""
    save = streaming()
    assert save.stage([ROWS, MORE_ROWS]) == []
    send_all(save)
    assert save.lent_slots == 2
    assert save.acknowledged(0) == [FreeSlots((0,))]
    assert save.acknowledged(0) == []
    assert save.lent_slots == 1


def test_lost_frames_leave_again_in_their_order_before_all_others() -> None:
    """What did not arrive is what the decode side waits for; its slots stay lent until an acknowledgement."""
    save = streaming()
    save.stage([ROWS, MORE_ROWS, STATE])
    sent = [save.next_frame(), save.next_frame()]
    for frame in sent:
        save.written(frame.slot)
    for frame in reversed(sent):
        assert save.resend(frame) == []
    assert save.lent_slots == 3
    assert send_all(save) == [(0, 0), (1, 1), (2, 2)]
    assert save.acknowledged(0) == [FreeSlots((0,))]


def test_a_frame_that_never_arrives_fails_its_save() -> None:
    """Sending again is bounded, and says which frame it was."""
    save = streaming()
    save.stage([ROWS])
    for _ in range(MAX_SENDS - 1):
        frame = save.next_frame()
        save.written(frame.slot)
        assert save.resend(frame) == []
    frame = save.next_frame()
    save.written(frame.slot)
    abort, free, close = save.resend(frame)
    assert abort == Send(Abort(7, f"frame 0 did not arrive in {MAX_SENDS} attempts"))
    assert free == FreeSlots((0,))
    assert isinstance(close, Close)
    assert save.resend(frame) == []


def test_slots_are_not_kept_long_for_a_peer_that_does_not_come() -> None:
    """Once everything is staged the deadline is the shorter one, until somebody opens the transfer."""
    save = Save("t", 10.0)
    save.offer("secret", 30.0)
    save.end(20, 5, open_by_s=12.0)
    assert save.deadline_s == 12.0
    save.open(7)
    assert save.deadline_s == 30.0


def test_done_frees_what_is_left() -> None:
    """After Done every slot is the worker's and the close has no reason."""
    save = streaming()
    save.stage([ROWS])
    send_all(save)
    save.end(20, 5)
    assert save.done() == [FreeSlots((0,)), Close("")]
    assert save.state is SaveState.CLOSED


def test_done_before_the_manifest_fails_the_save() -> None:
    """A peer cannot be done with what it does not know yet."""
    save = streaming()
    save.stage([ROWS])
    (abort, free, close) = save.done()
    assert abort == Send(Abort(7, "done while streaming"))
    assert (free, close) == (FreeSlots((0,)), Close("done while streaming"))


def test_a_slot_under_the_kernels_hands_is_not_freed_by_a_failure() -> None:
    """Bytes must not change while they are being written; the slot comes back afterwards."""
    save = streaming()
    save.stage([ROWS, MORE_ROWS])
    frame = save.next_frame()
    assert save.fail("gone", tell_peer=False) == [FreeSlots((1,)), Close("gone")]
    assert save.written(frame.slot) == [FreeSlots((0,))]
    assert save.lent_slots == 0


def test_a_piece_staged_again_comes_back_at_once() -> None:
    """A preempted request computes rows again; covered ones are not sent twice, overlapping ones are an error."""
    save = streaming()
    save.stage([ROWS, MORE_ROWS])
    again = StagedPiece(replace(ROWS.piece, first=4, count=12), 5)
    assert save.stage([again]) == [FreeSlots((5,))]
    overlap = StagedPiece(replace(ROWS.piece, first=12, count=16), 6)
    actions = save.stage([overlap])
    assert isinstance(actions[-1], Close)
    assert "overlaps" in actions[-1].reason


def test_staging_after_the_end_is_an_error_but_slots_come_back() -> None:
    """The manifest is final: a late piece fails the save, and after that slots are returned at once."""
    save = streaming()
    save.end(0, 5)
    actions = save.stage([ROWS])
    assert FreeSlots((0,)) in actions
    assert save.stage([MORE_ROWS]) == [FreeSlots((1,))]


def test_a_save_that_nobody_opened_fails_without_a_word_to_a_peer() -> None:
    """There is no peer to tell."""
    save = Save("t", 10.0)
    save.offer("secret", 30.0)
    assert save.fail("too late") == [Close("too late")]
    assert save.fail("again") == []


def test_every_open_state_can_fail_and_closed_is_final() -> None:
    """The table leads from everywhere to closed and from there nowhere."""
    assert {state for state, event in TRANSITIONS if event is SaveEvent.FAIL} == set(SaveState) - {SaveState.CLOSED}
    assert not any(state is SaveState.CLOSED for state, _ in TRANSITIONS)
