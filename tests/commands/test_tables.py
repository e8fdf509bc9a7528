"""Tables for terminals: which columns are shown, and which one is cut."""

import pytest
from rich.console import Console

from prfaas.commands.tables import Column, fitting

COLUMNS = (
    Column("engine"),
    Column("site", 60),
    Column("tokens", is_number=True),
    Column("why", is_text=True),
)


def drawn(width: int, why: str) -> list[str]:
    """The lines of a table with one row."""
    screen = Console(width=width)
    with screen.capture() as captured:
        screen.print(fitting(COLUMNS, [("edge-0", "edge", "7", why)], width))
    return [line.rstrip() for line in captured.get().splitlines() if line.strip()]


@pytest.mark.parametrize("length", [10, 100, 1_000])
def test_a_long_text_is_cut_and_nothing_else(length: int) -> None:
    """However long the reasons are, words and figures beside them stay whole, on one line."""
    head, _, row = drawn(80, "x" * length)
    assert head.split() == ["engine", "site", "tokens", "why"]
    engine, site, tokens, why = row.split()
    assert (engine, site, tokens) == ("edge-0", "edge", "7")
    assert why == "x" * length if length == 10 else why.endswith("x…")
    assert len(row) <= 80


def test_a_narrow_terminal_leaves_columns_out() -> None:
    """Those that say from which width on they are shown, with their cells; at that width they are there."""
    assert drawn(59, "late")[0].split() == ["engine", "tokens", "why"]
    assert drawn(59, "late")[2].split() == ["edge-0", "7", "late"]
    assert drawn(60, "late")[0].split() == ["engine", "site", "tokens", "why"]


def test_numbers_are_aligned_to_the_right() -> None:
    """Under the end of their heading."""
    head, _, row = drawn(80, "late")
    assert head.index("tokens") + len("tokens") == row.index("7") + 1
