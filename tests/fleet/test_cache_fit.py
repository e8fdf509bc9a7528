import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.fleet.cache_fit import CacheFit


def fit(*transfers: tuple[int, int]) -> tuple[float, float] | None:
    learnt = CacheFit()
    for tokens, size in transfers:
        learnt = learnt.add(tokens, size)
    return learnt.parts()


@pytest.mark.parametrize(
    ("transfers", "parts"),
    [
        ((), None),
        (((100, 5_000),), (50, 0)),
        (((100, 3_000), (300, 5_000)), (10, 2_000)),
        (((100, 3_000), (100, 3_000), (200, 4_000), (300, 5_000)), (10, 2_000)),
        (((1_000, 12_000), (1_010, 12_100)), (12_050 / 1_005, 0)),
        (((100, 5_000), (300, 5_000)), (0, 5_000)),
        (((100, 5_000), (300, 1_000)), (0, 2_990)),
    ],
)
def test_both_parts_are_learnt(transfers: tuple[tuple[int, int], ...], parts: tuple[float, float] | None) -> None:
    """From transfers of different lengths; from one length alone all bytes count as rows."""
    assert fit(*transfers) == (parts and pytest.approx(parts, rel=0.01))


def test_the_past_is_forgotten() -> None:
    """After another layout the size follows."""
    old, new = (
        [(tokens, 100 * tokens) for tokens in (100, 900)] * 50,
        [(tokens, 10 * tokens) for tokens in (100, 900)] * 300,
    )
    parts = fit(*old, *new)
    assert parts == pytest.approx((10, 0), abs=1)


@given(st.lists(st.tuples(st.integers(1, 200_000), st.integers(1, 10**10)), min_size=1, max_size=30))
def test_no_part_is_negative(transfers: list[tuple[int, int]]) -> None:
    """Whatever is reported, predictions made of it are no time travel."""
    parts = fit(*transfers)
    assert parts is not None
    assert parts[0] >= 0
    assert parts[1] >= -1e-3 * max(size for _, size in transfers)
