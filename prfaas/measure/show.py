"""A measured profile as tables, for people."""

from collections.abc import Iterator

from rich import box
from rich.table import Table

from prfaas.planner.profile_file import ProfileFile


def tables(file: ProfileFile) -> Iterator[Table]:
    """By length, and by batch."""
    sizes = {point.tokens: point for point in file.cache.points or ()}
    table = _table("tokens", "prefill", "spread", "cache", "computed", "cache/prefill")
    for point in file.prefill.points or ():
        size = sizes.get(point.tokens)
        table.add_row(
            f"{point.tokens:,}",
            f"{point.seconds:.4f} s",
            f"{point.spread_s or 0:.4f} s",
            f"{size.bytes:,.0f} B" if size else "-",
            f"{size.computed:,.0f} B" if size and size.computed else "-",
            f"{size.bytes * 8 / point.seconds / 1e9:.3f} Gbit/s" if size else "-",
        )
    yield table
    if file.decode:
        table = _table("batch", "step", "spread", "tokens/s")
        for step in file.decode:
            table.add_row(
                f"{step.batch}",
                f"{step.step_s * 1e3:.2f} ms",
                f"{(step.spread_s or 0) * 1e3:.2f} ms",
                f"{step.batch / step.step_s:,.1f}",
            )
        yield table


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, justify="right")
    return table
