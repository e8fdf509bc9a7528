import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.clock import ManualClock
from prfaas.errors import RequestRejected
from prfaas.gateway.access.limits import Bucket, TenantLimits

STEPS = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 50)), max_size=50)
"""Seconds that go by, and an amount that is wanted then."""


@given(STEPS)
def test_no_more_leaves_a_bucket_than_has_flowed_in(steps: list[tuple[float, float]]) -> None:
    """Whatever is asked for, over any time at most one full bucket and the inflow are given."""
    bucket, now_s, taken = Bucket.full(60, 0), 0.0, 0.0
    for passed_s, amount in steps:
        now_s += passed_s
        if bucket.wait_s(amount, now_s) == 0:
            bucket, taken = bucket.less(amount, now_s), taken + amount
    assert taken <= 60 + now_s + 1e-6
    assert bucket.level >= -1e-6


@given(st.floats(0, 60), st.floats(0.1, 60))
def test_the_wait_that_is_told_suffices(taken: float, amount: float) -> None:
    """Who waits as long as told gets what was asked for, and a moment earlier does not."""
    bucket = Bucket.full(60, 0).less(taken, 0)
    wait_s = bucket.wait_s(amount, 0)
    assert bucket.wait_s(amount, wait_s) < 1e-6
    if wait_s > 1e-3:
        assert bucket.wait_s(amount, wait_s * 0.99) > 0


def test_a_bucket_never_overflows_nor_runs_backwards() -> None:
    """Idle time fills it once, what is given back fits in, and an earlier moment changes nothing."""
    bucket = Bucket.full(10, 100).less(4, 100)
    assert bucket.at(10_000).level == 10
    assert bucket.less(-50, 100).level == 10
    assert bucket.at(0) == bucket


def test_an_amount_beyond_the_bucket_is_never_there() -> None:
    """More than a minute's worth at once cannot be waited for."""
    assert Bucket.full(10, 0).wait_s(11, 0) == math.inf


def refusal_of(limits: TenantLimits, tokens: int | None = None) -> RequestRejected:
    with pytest.raises(RequestRejected) as refusal:
        limits.begin() if tokens is None else limits.charge(tokens)
    assert refusal.value.status == 429
    return refusal.value


def test_requests_beyond_the_minute_are_refused_until_their_time() -> None:
    """The refusal tells when to come again, and then it is right."""
    clock = ManualClock()
    limits = TenantLimits(clock, requests_per_minute=2)
    limits.begin()
    limits.begin()
    error = refusal_of(limits)
    assert (error.code, error.kind, error.retry_after_s) == ("rate_limit_exceeded", "requests", 30)
    clock.advance(30)
    limits.begin()
    refusal_of(limits)


def test_requests_at_once_are_bounded() -> None:
    """A place is given again as soon as its request is over, and a refused one takes none."""
    limits = TenantLimits(ManualClock(), max_concurrent=1)
    limits.begin()
    assert refusal_of(limits).code == "concurrency_limit_exceeded"
    limits.end()
    limits.begin()
    assert limits.running == 1


def test_tokens_are_settled_by_what_was_used() -> None:
    """What was charged too much comes back; what was charged too little is owed before the next prompt."""
    clock = ManualClock()
    limits = TenantLimits(clock, tokens_per_minute=600)
    limits.charge(500)
    limits.settle(500, 100)
    limits.charge(500)
    limits.settle(500, 900)
    assert limits.headers()["x-ratelimit-remaining-tokens"] == "0"
    assert refusal_of(limits, 1).retry_after_s == 41
    clock.advance(41)
    limits.charge(1)


def test_prompt_beyond_the_minute_is_told_so() -> None:
    """No wait is promised to a prompt that the limit never lets in."""
    error = refusal_of(TenantLimits(ManualClock(), tokens_per_minute=100), 101)
    assert error.retry_after_s is None
    assert error.message == "The request needs 101 tokens; the limit is 100 tokens per minute."


def test_headers_tell_what_is_left() -> None:
    """As OpenAI's API names them; a limit that does not exist is not told."""
    clock = ManualClock()
    limits = TenantLimits(clock, requests_per_minute=60)
    for _ in range(10):
        limits.begin()
    clock.advance(2.5)
    assert limits.headers() == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "52",
        "x-ratelimit-reset-requests": "7.500s",
    }
    assert TenantLimits(clock).headers() == {}


@given(st.floats(0, 200), st.floats(1, 1000))
def test_another_limit_keeps_what_is_taken(taken: float, per_minute: float) -> None:
    """A larger one leaves more, a smaller one less, and neither makes or forgives a debt."""
    before = Bucket.full(100, 0).less(taken, 0)
    after = before.resized(per_minute, 0)
    assert after.per_minute == per_minute
    assert after.level <= max(per_minute - taken, min(before.level, 0)) + 1e-6
    assert min(after.level, 0) >= min(before.level, 0)
    assert before.resized(100, 0).level == pytest.approx(before.level)


def test_limits_of_a_tenant_change() -> None:
    """Those that are new begin full; those that go limit nothing; what runs is counted by the new ones."""
    clock = ManualClock()
    limits = TenantLimits(clock, requests_per_minute=2)
    limits.begin()
    limits.change(requests_per_minute=1, tokens_per_minute=100)
    assert refusal_of(limits).code == "rate_limit_exceeded"
    limits.charge(100)
    limits.change(max_concurrent=1)
    assert refusal_of(limits).code == "concurrency_limit_exceeded"
    limits.end()
    limits.begin()
    limits.charge(1_000)
    assert limits.headers() == {}
