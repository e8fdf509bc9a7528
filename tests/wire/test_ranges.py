"""Sets of ranges."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from prfaas.wire.ranges import RangeSet


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 8)), max_size=30))
def test_a_range_set_behaves_like_a_set_of_integers(additions: list[tuple[int, int]]) -> None:
    """Overlaps are refused, neighbours merge and ``covers`` agrees with a plain set."""
    ranges, model = RangeSet(), set[int]()
    for start, size in additions:
        new = set(range(start, start + size))
        assert ranges.covers(start, start + size) == (new <= model)
        assert ranges.add(start, start + size) == (not new & model)
        if not new & model:
            model |= new
    runs = ranges.ranges()
    assert {i for start, end in runs for i in range(start, end)} == model
    assert all(left[1] < right[0] for left, right in pairwise(runs))
