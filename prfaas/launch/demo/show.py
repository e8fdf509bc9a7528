"""The demo's table."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import JustifyMethod
from rich.table import Table

from prfaas.launch.demo.compare import Comparison

COLUMNS: tuple[tuple[str, JustifyMethod], ...] = (
    ("prompt\ntokens", "right"),
    ("asked", "left"),
    ("placement", "left"),
    ("TTFT\nms", "right"),
    ("edge\nalone", "right"),
    ("cache\nMB", "right"),
    ("early", "right"),
    ("tokens\nequal", "right"),
    ("logprob\ndiff", "right"),
)
CAPTION = (
    "TTFT: time to the first token, or to the whole answer if it was not streamed. edge alone: the same on the edge "
    "engine alone. early: share of the cache that had arrived before the remote prefill ended."
)


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """One line per question; fits 80 columns."""
    table = Table(
        title="through the gateway, and on the edge engine alone",
        caption=CAPTION,
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for name, justify in COLUMNS:
        table.add_column(name, justify=justify, no_wrap=True)
    for each in comparisons:
        table.add_row(*_cells(each))
    return table


def _cells(each: Comparison) -> tuple[str, ...]:
    did = each.evidence
    return (
        "-" if did.prompt_tokens is None else f"{did.prompt_tokens:,}",
        "stream" if each.stream else "whole",
        _placement(each),
        f"{each.first_token_s * 1000:,.0f}",
        f"{each.alone_s * 1000:,.0f}",
        f"{did.cache_bytes / 1e6:,.1f}" if did.cache_bytes else "-",
        f"{did.early_bytes / did.cache_bytes:.0%}" if did.cache_bytes else "-",
        "yes" if each.tokens_equal else "[red]NO[/red]",
        f"{each.logprob_diff:.2g}",
    )


def _placement(each: Comparison) -> str:
    """Where it was prefilled, or, when that is not where it was meant to be, what happened instead."""
    if each.is_remote:
        return "[green]remote[/green]"
    is_as_planned = each.evidence.outcome == each.evidence.placement
    return each.evidence.outcome if is_as_planned else f"[red]{each.evidence.outcome}[/red]"
