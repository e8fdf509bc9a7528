"""The table against a dict of sets, over any sequence of changes."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from prfaas.fleet import block_log, block_table
from prfaas.fleet.block_log import BlockLog, Keys
from prfaas.fleet.block_table import MAX_SPILLED, BlockTable

BUCKETS = 256
KEYS = st.one_of(
    st.integers(0, 40),
    # All in one bucket of a small table, so that it spills, at the last bucket too.
    st.integers(0, 30).map(lambda n: n * BUCKETS),
    st.integers(0, 30).map(lambda n: n * BUCKETS + BUCKETS - 1),
    st.integers(0, (1 << 64) - 1),
)
GROUPS = 3
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["add", "discard", "reserve", "all"]),
        st.lists(KEYS, max_size=40),
        st.integers(0, GROUPS - 1),
        st.integers(0, 63),
    ),
    max_size=30,
)


@contextmanager
def small() -> Iterator[None]:
    """Segments and runs of a few blocks, so that a few blocks are enough for all that happens to millions."""
    with ExitStack() as stack:
        for where, name, value in ((block_log, "SEGMENT", 8), (block_table, "MIN_ROOM", 8), (block_table, "FEW", 0)):
            stack.enter_context(patch.object(where, name, value))
        stack.enter_context(patch.object(block_table, "RUN", 4))
        yield


@given(CHANGES, st.booleans())
@settings(max_examples=300, deadline=None)
def test_it_holds_what_a_dict_would(changes: list[tuple[str, list[int], int, int]], is_small: bool) -> None:
    with small() if is_small else ExitStack():
        _compare(changes)


def _compare(changes: list[tuple[str, list[int], int, int]]) -> None:
    table, expected = BlockTable(GROUPS), dict[tuple[int, int], int]()
    for what, keys, group, engine in changes:
        mask = 1 << engine
        if what == "add":
            table.add(keys, group, mask)
            expected.update({(key or 1, group): expected.get((key or 1, group), 0) | mask for key in keys})
        elif what == "discard":
            table.discard(keys, group, mask)
            expected.update({(key or 1, group): expected.get((key or 1, group), 0) & ~mask for key in keys})
        elif what == "reserve":
            table.reserve(len(keys) * 100)
        else:
            table.discard_all(mask)
            expected = {key: have & ~mask for key, have in expected.items()}
    assert len(table) == len({key for (key, _), have in expected.items() if have})
    asked = [*{key for key, _ in expected}, 7_777_777]
    found = table.masks(np.array(asked, np.uint64))
    assert found.tolist() == [[expected.get((key, group), 0) for group in range(GROUPS)] for key in asked]


def test_many_blocks_are_found_again_and_take_bounded_memory() -> None:
    keys = np.random.default_rng(1).integers(1, 1 << 63, 50_000, np.uint64)
    table = BlockTable(2)
    table.reserve(len(keys))
    before = table.nbytes
    table.add(keys.tolist(), 1, 1 << 63)
    assert table.nbytes == before <= 128 * len(keys)
    assert (table.masks(keys) == np.array([0, 1 << 63], np.uint64)).all()
    assert not table.masks(keys ^ np.uint64(1 << 63)).any()


def test_blocks_that_come_and_go_for_long_leave_the_table_as_it_was() -> None:
    """A full cache stores and evicts without growing. What deletion leaves behind is cleared now and then."""
    rng, table = np.random.default_rng(2), BlockTable(1)
    table.reserve(900)
    held: list[int] = []
    for _ in range(60):
        new = rng.integers(1, 1 << 63, 400, np.uint64).tolist()
        table.add(new, 0, 1)
        held += new
        table.discard(held[:-500], 0, 1)
        held = held[-500:]
    assert table.nbytes == _filled(held).nbytes
    assert table._marks <= MAX_SPILLED * table._buckets
    assert table.masks(np.array(held, np.uint64)).all()
    assert not table.masks(rng.integers(1, 1 << 63, 5_000, np.uint64)).any()


def test_blocks_that_came_together_stay_together_whatever_is_evicted_around_them() -> None:
    """What look-ups are fast by: most blocks are where they are expected."""
    rng = np.random.default_rng(3)
    with patch.object(block_log, "SEGMENT", 64):
        table = BlockTable(1)
        conversation, evicted = rng.integers(1, 1 << 63, 300, np.uint64), list[int]()
        for at in range(0, 300, 10):
            table.add(conversation[at : at + 10].tolist(), 0, 1)
            evicted = _churn(table, rng, evicted)
        for _ in range(100):
            evicted = _churn(table, rng, evicted)
        assert _torn(table, conversation) <= 2 * 30
        assert (table.masks(conversation) == 1).all()


def test_a_sweep_moves_no_more_than_a_segment_however_much_stays_for_ever() -> None:
    with patch.object(block_log, "SEGMENT", 64):
        log = BlockLog(1, 6400)
        for key in range(1, 6400):
            if log.is_due:
                assert len(log.sweep()[0]) == 0
            log.append(key)
        for key in range(6400, 50_000):
            if log.is_due:
                assert len(log.sweep()[0]) <= 64 * 2 // 3
            log.remove(log.append(key))


def _churn(table: BlockTable, rng: np.random.Generator, old: list[int]) -> list[int]:
    """What an engine does whose cache is full: as many blocks are evicted, the last ones first, as are stored."""
    new: list[int] = rng.integers(1, 1 << 63, 150, np.uint64).tolist()
    table.discard(old[::-1], 0, 1)
    table.add(new, 0, 1)
    return new


def _torn(table: BlockTable, keys: Keys) -> int:
    """How many are not behind the one before them."""
    return int(np.count_nonzero(np.diff(table._places_of(keys)) != 1))


def _filled(keys: list[int]) -> BlockTable:
    table = BlockTable(1)
    table.reserve(len(keys) + 400)
    table.add(keys, 0, 1)
    return table
