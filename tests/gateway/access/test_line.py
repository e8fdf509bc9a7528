from collections import Counter, deque
from itertools import takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.gateway.access.line import Line, LineFull

CLASSES = {"high": 4, "low": 6}
MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("join"), st.sampled_from(list(CLASSES)), st.sampled_from("abc")),
        st.tuples(st.just("next"), st.just(""), st.just("")),
        st.tuples(st.just("leave"), st.just(""), st.just("")),
    ),
    max_size=60,
)


def drained(line: Line[str]) -> list[str]:
    return list(takewhile(lambda ticket: ticket is not None, iter(line.next, None)))


def test_higher_classes_go_first() -> None:
    """A lower class moves only when no higher one waits."""
    line = Line[str](CLASSES)
    line.join("low", "a", "low-1")
    line.join("high", "a", "high-1")
    line.join("high", "b", "high-2")
    assert drained(line) == ["high-1", "high-2", "low-1"]


def test_tenants_of_a_class_take_turns() -> None:
    """One with a single request does not wait for all of another one's."""
    line = Line[str](CLASSES)
    for ticket in ("a1", "a2", "a3"):
        line.join("high", "a", ticket)
    line.join("high", "b", "b1")
    assert drained(line) == ["a1", "b1", "a2", "a3"]


def test_full_class_makes_room_for_other_tenants() -> None:
    """Who fills a class alone loses the last place to a newcomer, and gets none beyond."""
    line = Line[str]({"high": 3})
    for ticket in ("a1", "a2", "a3"):
        assert line.join("high", "a", ticket) is None
    with pytest.raises(LineFull):
        line.join("high", "a", "a4")
    assert line.join("high", "b", "b1") == "a3"
    with pytest.raises(LineFull):
        line.join("high", "b", "b2")
    assert drained(line) == ["a1", "b1", "a2"]


def test_class_without_places_refuses_all() -> None:
    """A bound of zero means: run at once or not at all."""
    with pytest.raises(LineFull):
        Line[str]({"high": 0}).join("high", "a", "a1")


@given(MOVES)
def test_nobody_is_lost_doubled_or_overtaken(moves: list[tuple[str, str, str]]) -> None:
    """Whatever comes and goes: every ticket leaves once, in its tenant's order, and the bounds hold."""
    line, waiting, number = Line[str](CLASSES), dict[tuple[str, str], deque[str]](), 0
    for move, priority, tenant in moves:
        if move == "join":
            number += 1
            _join(line, waiting, priority, tenant, f"{priority} {tenant} {number}")
        elif move == "next":
            _check_next(line, waiting)
        elif any(waiting.values()):
            where = next(key for key, tickets in waiting.items() if tickets)
            ticket = waiting[where].pop()
            assert line.leave(*where, ticket)
            assert not line.leave(*where, ticket)
        counts = Counter[str]()
        for (priority, _), tickets in waiting.items():
            counts[priority] += len(tickets)
        assert {name: line.waiting(name) for name in CLASSES} == {name: counts[name] for name in CLASSES}
        assert all(counts[name] <= limit for name, limit in CLASSES.items())


def _join(line: Line[str], waiting: dict[tuple[str, str], deque[str]], priority: str, tenant: str, ticket: str) -> None:
    try:
        evicted = line.join(priority, tenant, ticket)
    except LineFull:
        return
    if evicted is not None:
        theirs = waiting[priority, evicted.split()[1]]
        assert theirs.pop() == evicted
    waiting.setdefault((priority, tenant), deque()).append(ticket)


def _check_next(line: Line[str], waiting: dict[tuple[str, str], deque[str]]) -> None:
    ticket = line.next()
    if ticket is None:
        assert not any(waiting.values())
        return
    priority, tenant, _ = ticket.split()
    assert waiting[priority, tenant].popleft() == ticket
    if priority == "low":
        assert not any(tickets for (name, _), tickets in waiting.items() if name == "high")
