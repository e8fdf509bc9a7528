"""Tables that fit: what matters less is left out where a terminal is narrow."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table
from rich.text import Text

Cell = str | Text

NARROW = 60
"""Columns of a terminal on which the figures alone may not fit; there all are cut alike."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        from_width: it is shown on terminals of at least so many columns.
        is_number: aligned to the right.
        is_text: may be long, so that it is cut off rather than a word or a figure.
    """

    heading: str
    from_width: int = 0
    is_number: bool = False
    is_text: bool = False


def fitting(columns: Sequence[Column], rows: Iterable[Sequence[Cell]], width: int, title: str = "") -> Table:
    """A table of the columns that a terminal of ``width`` has room for; rows have a cell for every column."""
    shown = [at for at, column in enumerate(columns) if column.from_width <= width]
    # Only in a table as wide as the terminal does a column with a ratio get what the others leave, and not the reverse.
    has_text = width >= NARROW and any(columns[at].is_text for at in shown)
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        title=title or None,
        title_justify="left",
        title_style="bold",
        expand=has_text,
    )
    for at in shown:
        column = columns[at]
        table.add_column(
            column.heading,
            justify="right" if column.is_number else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if column.is_text else None,
        )
    for row in rows:
        table.add_row(*(row[at] for at in shown))
    return table
