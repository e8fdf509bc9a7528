"""Backpressure on both sides."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prfaas.errors import RemoteProtocolError
from prfaas.wire.credit import MAX_STARTED, ReceiveBudget, SendCredit


def test_a_single_session_gets_all_slots() -> None:
    """With one session connected nothing is kept back."""
    budget = ReceiveBudget(8)
    account = budget.join()
    assert budget.grants() == []
    budget.begin(account)
    assert budget.grants() == [(account, 8)]


def test_a_share_is_kept_for_a_connected_session_without_loads() -> None:
    """A session that starts later gets credit at once, though the first has spent none of its own."""
    budget = ReceiveBudget(8)
    first, second = budget.join(), budget.join()
    budget.begin(first)
    assert budget.grants() == [(first, 4)]
    budget.begin(second)
    assert budget.grants() == [(second, 4)]


def test_a_share_is_kept_for_an_expected_session_that_is_not_connected() -> None:
    """One that connects and starts while another holds all that it was granted gets credit at once."""
    budget = ReceiveBudget(8, sessions=2)
    first = budget.join()
    budget.begin(first)
    assert budget.grants() == [(first, 4)]
    second = budget.join()
    budget.begin(second)
    assert budget.grants() == [(second, 4)]


def test_the_end_of_a_session_takes_no_other_out() -> None:
    """Of two sessions whose figures are the same, the one that stays still gets credit."""
    budget = ReceiveBudget(8)
    stays, leaves = budget.join(), budget.join()
    budget.leave(leaves)
    budget.begin(stays)
    assert budget.grants() == [(stays, 8)]
    budget.leave(stays)


def test_a_frame_without_credit_is_the_peers_error() -> None:
    """Credit is the only way to a slot."""
    budget = ReceiveBudget(1)
    account = budget.join()
    budget.begin(account)
    budget.grants()
    budget.spend(account, 0, takes_slot=True)
    with pytest.raises(RemoteProtocolError, match="without credit"):
        budget.spend(account, 0, takes_slot=True)


def test_credit_lapses_with_the_last_started_load() -> None:
    """Unused credit is free for others, and frames of the old round are not paid from the next."""
    budget = ReceiveBudget(4)
    account = budget.join()
    budget.begin(account)
    budget.grants()
    budget.end(account)
    other = budget.join()
    budget.begin(other)
    assert budget.grants() == [(other, 2)]
    budget.spend(account, 0, takes_slot=False)
    assert account.granted == 0
    with pytest.raises(RemoteProtocolError, match="round"):
        budget.spend(account, 0, takes_slot=True)


def test_small_top_ups_wait_for_a_quarter_of_a_share() -> None:
    """One returned slot of many is not worth a message."""
    budget = ReceiveBudget(16)
    account = budget.join()
    budget.begin(account)
    budget.grants()
    for _ in range(4):
        budget.spend(account, 0, takes_slot=True)
    for _ in range(3):
        budget.slot_done(account)
        assert budget.grants() == []
    budget.slot_done(account)
    assert budget.grants() == [(account, 4)]


def test_the_prefill_side_lapses_at_the_same_message() -> None:
    """Done or Abort of the last started transfer ends the round; others do not."""
    credit = SendCredit()
    credit.start(1)
    credit.start(2)
    credit.grant(3)
    assert credit.spend() == 0
    credit.end(1)
    credit.end(99)
    assert credit.frames == 2
    credit.refund(0)
    assert credit.frames == 3
    credit.end(2)
    assert (credit.frames, credit.round) == (0, 1)
    credit.refund(0)
    assert credit.frames == 0


def test_what_a_peer_makes_us_remember_is_bounded() -> None:
    """Starting ever new handles is the peer's error."""
    credit = SendCredit()
    for handle in range(MAX_STARTED):
        credit.start(handle)
    with pytest.raises(RemoteProtocolError):
        credit.start(MAX_STARTED)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), max_size=200), st.integers(1, 12))
def test_granted_and_lent_slots_never_exceed_the_arena(steps: list[tuple[int, int]], slots: int) -> None:
    """Whatever sessions do, the promise behind every credit is a free slot."""
    budget = ReceiveBudget(slots)
    accounts = [budget.join() for _ in range(3)]
    for step, which in steps:
        account = accounts[which]
        if step == 0:
            budget.begin(account)
        elif step == 1 and account.started:
            budget.end(account)
        elif step == 2 and account.granted:
            budget.spend(account, account.round, takes_slot=True)
        elif step == 3 and account.lent:
            budget.slot_done(account)
        elif step == 4:
            budget.grants()
        elif step == 5 and account.granted:
            budget.spend(account, account.round, takes_slot=False)
        assert sum(a.granted + a.lent for a in accounts) <= slots
        assert all(a.granted >= 0 and a.lent >= 0 for a in accounts)
