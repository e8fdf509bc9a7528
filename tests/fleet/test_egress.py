from hypothesis import given
from hypothesis import strategies as st

from prfaas.fleet.egress import BUCKET_S, BUCKETS, EgressWindow


def test_a_day_is_remembered() -> None:
    """Bytes count for a day, and are forgotten an hour after it at the latest."""
    window = EgressWindow().add(5, 0.0).add(3, 10.0).add(2, 3 * BUCKET_S)
    assert window.used_bytes(3 * BUCKET_S) == 10
    assert window.used_bytes(24 * BUCKET_S) == 10
    assert window.used_bytes(25 * BUCKET_S) == 2
    assert window.used_bytes(28 * BUCKET_S) == 0


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 2e4)), max_size=60))
def test_window_is_bounded_and_forgets_nothing_recent(additions: list[tuple[int, float]]) -> None:
    """However long it runs it holds one entry an hour, and the last day's bytes are all in it."""
    window, now_s, log = EgressWindow(), 0.0, []
    for count, later_s in additions:
        now_s += later_s
        window = window.add(count, now_s)
        log.append((now_s, count))
        assert len(window.hours) <= BUCKETS + 1
    day_s = BUCKETS * BUCKET_S
    recent = sum(count for at_s, count in log if at_s > now_s - day_s)
    longest = sum(count for at_s, count in log if at_s > now_s - day_s - BUCKET_S)
    assert recent <= window.used_bytes(now_s) <= longest
