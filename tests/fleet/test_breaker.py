"""The breaker's rules, by example and for every order of events."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.clock import ManualClock
from prfaas.fleet.breaker import MAX_SAMPLES, Breaker, BreakerPolicy, State
from prfaas.fleet.breakers import Breakers, Permit
from prfaas.fleet.failures import AGAINST_ENGINE, AGAINST_LINK, Fault, report_fault

POLICY = BreakerPolicy(consecutive=3, share=0.5, min_samples=6, window_s=10, open_s=1, max_open_s=8, trials=2)


def breakers() -> tuple[Breakers[str], ManualClock]:
    clock = ManualClock()
    return Breakers(clock, POLICY), clock


def fail(all_of_them: Breakers[str], count: int) -> None:
    for _ in range(count):
        admitted(all_of_them).end(False)


def admitted(all_of_them: Breakers[str]) -> Permit[str]:
    permit = all_of_them.admit("a")
    assert permit is not None
    return permit


def test_failures_in_a_row_open_it_and_a_success_between_does_not() -> None:
    """Only failures that follow each other count together."""
    breaker, _ = breakers()
    fail(breaker, 2)
    admitted(breaker).end(True)
    fail(breaker, 2)
    assert breaker.of("a").state is State.CLOSED
    fail(breaker, 1)
    assert breaker.of("a").state is State.OPEN
    assert breaker.admit("a") is None
    assert breaker.of("b").state is State.CLOSED


def test_share_of_failures_in_the_window_opens_it() -> None:
    """Every second request failing opens it, once there are enough to tell, and old ones are forgotten."""
    breaker, clock = breakers()
    for is_success in (False, True, False, True, False):
        admitted(breaker).end(is_success)
    clock.advance(11)
    for is_success in (True, False, True, True, False):
        admitted(breaker).end(is_success)
    assert breaker.of("a").state is State.CLOSED
    admitted(breaker).end(True)
    fail(breaker, 2)
    assert breaker.of("a").state is State.OPEN


def test_half_open_admits_a_few_and_one_success_closes_it() -> None:
    """When its time is over so many trials may go through at once; the first that succeeds closes it."""
    breaker, clock = breakers()
    fail(breaker, 3)
    clock.advance(1)
    first, second = admitted(breaker), admitted(breaker)
    assert breaker.admit("a") is None
    first.drop()  # a client that left gives its place to another
    third = admitted(breaker)
    third.end(True)
    assert breaker.of("a").state is State.CLOSED
    second.end(False)
    assert breaker.of("a").failures == 0, "what an earlier generation tells comes too late"


def test_half_open_since_its_time_was_over() -> None:
    """However late somebody looks, and however often."""
    breaker, clock = breakers()
    fail(breaker, 3)
    clock.advance(1.5)
    began_s = clock.now_s() - 0.5
    assert (breaker.of("a").state, breaker.of("a").since_s) == (State.HALF_OPEN, began_s)
    clock.advance(7)
    assert breaker.of("a").since_s == began_s


def test_each_failed_trial_doubles_the_time_up_to_a_bound() -> None:
    """1, 2, 4, 8 and again 8 seconds; closed once, it begins with 1 again."""
    breaker, clock = breakers()
    fail(breaker, 3)
    seen = []
    for _ in range(5):
        now = breaker.of("a")
        seen.append(now.until_s - now.since_s)
        clock.advance(now.until_s - now.since_s)
        admitted(breaker).end(False)
    assert seen == [1, 2, 4, 8, 8]
    clock.advance(8)
    admitted(breaker).end(True)
    fail(breaker, 3)
    assert breaker.of("a").until_s - breaker.of("a").since_s == 1


def test_forced_request_that_succeeds_closes_an_open_breaker() -> None:
    """A request without another way goes through all the same; its success is proof, its failure is no news."""
    breaker, _ = breakers()
    fail(breaker, 3)
    before = breaker.of("a")
    for is_success in (False, True):
        permit = breaker.admit("a", is_forced=True)
        assert permit is not None
        permit.end(is_success)
        assert breaker.of("a") == before or is_success
    assert breaker.of("a").state is State.CLOSED


def test_permit_ends_once() -> None:
    """Whatever is said of a request after its first end changes nothing."""
    breaker, _ = breakers()
    permit = admitted(breaker)
    permit.end(True)
    for _ in range(5):
        permit.end(False)
    permit.drop()
    assert breaker.of("a").failures == 0


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.floats(0, 20)),
        st.tuples(st.just("enter"), st.just(0.0)),
        st.tuples(st.sampled_from(["succeed", "fail", "drop"]), st.integers(0, 7)),
    ),
    max_size=120,
)


@given(EVENTS)
def test_rules_hold_in_every_order(events: list[tuple[str, float]]) -> None:
    """Never more trials than allowed, nothing through an open one, no longer open than the bound, bounded memory; and
    whatever happened, a success after the bound closes it."""
    breaker, clock = breakers()
    under_way: list[Permit[str]] = []
    trials: set[Permit[str]] = set()
    generation = 0
    for what, value in events:
        if what == "wait":
            clock.advance(value)
        now = breaker.of("a")
        if now.generation != generation:
            trials, generation = set(), now.generation
        if what == "enter":
            permit = breaker.admit("a")
            assert (permit is not None) == (
                now.state is State.CLOSED or (now.state is State.HALF_OPEN and len(trials) < POLICY.trials)
            )
            if permit is not None:
                under_way.append(permit)
                trials |= {permit} if now.state is State.HALF_OPEN else set()
        elif what != "wait" and under_way:
            permit = under_way.pop(int(value) % len(under_way))
            trials.discard(permit)
            if what == "drop":
                permit.drop()
            else:
                permit.end(what == "succeed")
        now = breaker.of("a")
        assert len(now.samples) <= MAX_SAMPLES
        assert now.state is not State.OPEN or 0 < now.until_s - now.since_s <= POLICY.max_open_s
    for permit in under_way:
        permit.drop()
    clock.advance(POLICY.max_open_s)
    admitted(breaker).end(True)
    assert breaker.of("a").state is State.CLOSED


def test_growth_is_bounded_for_ever() -> None:
    """A peer that is gone for years overflows nothing."""
    now, breaker = 0.0, Breaker(POLICY)
    for _ in range(3):
        breaker = breaker.told(breaker.generation, False, now)
    for _ in range(3000):
        now = breaker.until_s
        breaker = breaker.at(now)
        breaker = breaker.told(breaker.generation, False, now)
    assert breaker.until_s - now == POLICY.max_open_s


def test_every_fault_is_held_against_one_side_at_most() -> None:
    """A fault counts for the engine or for the link; a full or refusing engine, and a client's error, for neither."""
    assert not AGAINST_ENGINE & AGAINST_LINK
    assert not {Fault.FULL, Fault.REFUSED, Fault.DECLINED, Fault.OPEN} & (AGAINST_ENGINE | AGAINST_LINK)


@pytest.mark.parametrize(
    ("reason", "fault"),
    [
        ("not complete within its time", Fault.TRANSFER),
        ("the prefill side ended the transfer: not finished within its time", Fault.TRANSFER),
        ("prefill engine at cloud:7111: nothing heard for 5 s", Fault.TRANSFER),
        ("not dialed again yet after: prefill engine at cloud:7111: refused", Fault.TRANSFER),
        ("3 frames arrived, not those that the manifest announced", Fault.TRANSFER),
        ("cancelled: the request ended", Fault.DECLINED),
        ("the engine did not use it", Fault.DECLINED),
        ("no room for its blocks", Fault.DECLINED),
        ("the prefill side ended the transfer: the adapters differ: 1f2e at the prefill engine, none", Fault.DECLINED),
    ],
)
def test_reports_blame_the_link_for_what_was_lost_on_it(reason: str, fault: Fault) -> None:
    """What the mover lost counts against the link, what the engine did not want against nobody."""
    assert report_fault(reason) is fault
