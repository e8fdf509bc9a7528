"""Which way is next, without any engine."""

from hypothesis import given
from hypothesis import strategies as st

from prfaas.fleet.failures import Fault
from prfaas.gateway.deadlines import REMOTE_SHARE, remote_stage
from prfaas.gateway.ways import MAX_REMOTE_TRIES, Lost, Way, next_way

WAYS = (Way("e0", "m0"), Way("e0", "c1"), Way("e0", None), Way("e1", None))
"""What a placement on e0 and c0 may fall back to: elsewhere, then here, then another engine here."""


def test_stall_goes_home_at_once() -> None:
    """A prefill elsewhere that took its whole time is followed by none elsewhere."""
    lost = Lost().after(Way("e0", "c0"), "transfer", Fault.STALLED)
    assert next_way(WAYS, lost) == Way("e0", None)


def test_decode_engine_that_failed_is_in_no_further_way() -> None:
    """Neither alone nor with another prefill engine."""
    lost = Lost().after(Way("e0", "c0"), "decode", Fault.BROKE_OFF)
    assert next_way(WAYS, lost) == Way("e1", None)


def test_closed_engine_is_in_no_way() -> None:
    """Neither one that would prefill nor one that would answer; the next way is another one."""
    lost = Lost().after(Way("e0", "c0"), "prefill", Fault.FAILED)
    assert next_way(WAYS, lost, {"m0", "e1"}.__contains__) == Way("e0", "c1")
    assert next_way(WAYS, lost, {"m0", "c1", "e0"}.__contains__) == Way("e1", None)
    assert next_way(WAYS, lost, {"e0", "e1"}.__contains__) is None


FAULTS = st.sampled_from([("prefill", Fault.FULL), ("decode", Fault.FAILED), ("transfer", Fault.STALLED)])


@given(st.lists(st.one_of(FAULTS, st.just(("prefill", Fault.OPEN))), max_size=20))
def test_no_way_is_taken_twice(faults: list[tuple[str, Fault]]) -> None:
    """Whatever fails, each way is taken at most once, those elsewhere no oftener than the bound, and it ends."""
    way, lost, taken = Way("e0", "c0"), Lost(), [Way("e0", "c0")]
    remote = 0
    for stage, fault in faults:
        if way.prefill is None and stage != "decode":
            stage, fault = "decode", Fault.FAILED
        remote += way.prefill is not None and fault is not Fault.OPEN
        lost = lost.after(way, stage, fault)
        following = next_way(WAYS, lost)
        if following is None:
            break
        way = following
        taken.append(way)
    assert len(taken) == len(set(taken))
    assert remote <= MAX_REMOTE_TRIES


@given(st.floats(0, 1e5), st.floats(0.001, 3600))
def test_remote_stage_leaves_time_for_a_local_one(left_s: float, timeout_s: float) -> None:
    """However little is left, a prefill elsewhere has its share at most, and the patience leaves the rest."""
    stage = remote_stage(left_s, timeout_s)
    assert stage.transfer_s <= min(timeout_s, REMOTE_SHARE * left_s)
    assert stage.transfer_s <= stage.patience_s <= 0.75 * left_s
