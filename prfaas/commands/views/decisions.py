"""Decisions as a table, or one as a line."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from prfaas.commands.figures import count, seconds
from prfaas.commands.tables import Cell, Column, fitting

Json = Mapping[str, Any]

STYLES = {
    "local": "green",
    "remote": "cyan",
    "running": "dim",
    "recomputed": "bold yellow",
    "unknown": "bold yellow",
    "error": "bold red",
    "refused": "red",
}
COLUMNS = (
    Column("at", 70),
    Column("request"),
    Column("tenant", 140),
    Column("outcome"),
    Column("way", 60),
    Column("prompt", 60, is_number=True),
    Column("first token", 90, is_number=True),
    Column("total", is_number=True),
    Column("why", 100, is_text=True),
)


def table(decisions: Iterable[Json], width: int) -> Table:
    """One row each, in the given order."""
    return fitting(COLUMNS, map(_row, decisions), width)


def line(each: Json) -> Text:
    """One decision, in columns that lines before and after it have, too."""
    at, request, _, outcome, way, prompt, first, total, why = _row(each)
    padded = Text(f"{outcome}".ljust(10), outcome.style if isinstance(outcome, Text) else "")
    return Text.assemble(f"{at} {request}  ", padded, f" {way}  {prompt} tokens  {first}  {total}  {why}")


def way(each: Json) -> str:
    """The engines, in the order in which they worked."""
    return f"{each['prefill']} → {each['decode']}" if each["prefill"] else each["decode"] or "-"


def arrived(each: Json) -> str:
    """When the request came, by this machine's time zone."""
    if not each["arrived_unix_s"]:
        return "-"
    return datetime.fromtimestamp(each["arrived_unix_s"]).strftime("%H:%M:%S")


def why(each: Json) -> str:
    """The reasons, what went wrong, and what other tries came to."""
    lost = [f"{one['stage']} at {one['decode']}: {one['outcome']}" for one in each["tries"][:-1]]
    return "; ".join(filter(None, (each["detail"], *lost, *each["reasons"])))


def _row(each: Json) -> tuple[Cell, ...]:
    return (
        arrived(each),
        each["request_id"],
        each["tenant"],
        Text(each["outcome"], STYLES.get(each["outcome"], "")),
        way(each),
        count(each["prompt_tokens"]),
        seconds(each["first_output_s"]),
        seconds(each["total_s"]),
        why(each),
    )
