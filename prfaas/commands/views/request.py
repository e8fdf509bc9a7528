"""One request in full: what was decided and why, what came of it, and its way as bars on one time line."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from prfaas.commands.figures import count, seconds, share, size
from prfaas.commands.views.decisions import STYLES, arrived, way

Json = Mapping[str, Any]

MIN_BAR, MAX_BAR = 10, 60
"""Characters of the time line."""
BESIDE = 58
"""What the words beside it take."""
COLOURS = {"failed try": "red", "recompute": "yellow", "transfer": "cyan", "queue": "yellow"}


def draw(told: Json, width: int) -> RenderableType:
    """All that is known of it."""
    decision, stages = told["decision"], told["timeline"]
    facts = Table.grid(padding=(0, 2))
    for name, value in _facts(decision):
        facts.add_row(Text(name, "dim"), value)
    parts: list[RenderableType] = [facts]
    if stages:
        parts += [Text(), _timeline(stages, max(MIN_BAR, min(MAX_BAR, width - BESIDE)))]
    return Group(*parts)


def _facts(each: Json) -> Iterator[tuple[str, str | Text]]:
    yield "request", f"{each['request_id']} ({each['endpoint']}{', streamed' if each['is_stream'] else ''})"
    yield "arrived", arrived(each) + (f", of {each['tenant']}" if each["tenant"] else "")
    yield "outcome", Text.assemble((each["outcome"], STYLES.get(each["outcome"], "")), _status(each))
    yield "placed", f"{each['placement']}: {way(each)}"
    for reason in each["reasons"]:
        yield "because", reason
    yield "prompt", f"{count(each['prompt_tokens'])} tokens, of which {count(each['uncached_tokens'])} were not cached"
    predicted = each["predicted_first_token_s"]
    said = f", predicted {seconds(predicted)} from its placement" if predicted is not None else ""
    yield "first token", seconds(each["first_output_s"]) + said
    yield "total", seconds(each["total_s"])
    if (report := each["report"]) is not None:
        early = share(report["early_bytes"] / report["cache_bytes"]) if report["cache_bytes"] else "none"
        words = f"{count(report['tokens'])} tokens, {size(report['cache_bytes'])}, {early} before the prefill ended"
        yield "cache", words if report["ok"] else f"not used: {report['reason']}"
    for one in each["tries"]:
        engines = " → ".join(filter(None, (one["prefill"], one["decode"])))
        yield "try", f"{engines}: {one['outcome']} ({one['stage']}) after {seconds(one['seconds'])}"
    for one in each["candidates"]:
        yield "compared", _candidate(one)


def _status(each: Json) -> str:
    status = f", status {each['status']}" if each["status"] is not None else ""
    return status + (f": {each['detail']}" if each["detail"] else "")


def _candidate(one: Json) -> str:
    """A way that was compared, with the figures that it has."""
    figures = (
        (one["uncached_tokens"], f"{count(one['uncached_tokens'])} tokens to prefill"),
        (one["transfer_bytes"], f"{size(one['transfer_bytes'])} to send"),
        (one["first_token_s"], f"first token in {seconds(one['first_token_s'])} ({one['speed']} speed)"),
    )
    return f"{way(one)}: {', '.join(words for value, words in figures if value is not None) or 'no figures'}"


def _timeline(stages: Sequence[Json], bar: int) -> Table:
    """The stages from top to bottom, each where it lay in time."""
    ends = [each["end_s"] if each["end_s"] is not None else each["begin_s"] for each in stages]
    whole_s = max(*ends, 1e-9)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("stage", no_wrap=True)
    table.add_column("at", no_wrap=True)
    table.add_column(f"0 to {seconds(whole_s)}", no_wrap=True, width=bar)
    table.add_column("took", justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for each in stages:
        ends_s = whole_s if each["end_s"] is None else each["end_s"]
        took = "lasts" if each["end_s"] is None else seconds(max(0.0, ends_s - each["begin_s"]))
        drawn = Text(_bar(each["begin_s"] / whole_s, ends_s / whole_s, bar), COLOURS.get(each["stage"], "blue"))
        from_engine = f"from {each['source']}" if each["source"] else ""
        note = "; ".join(filter(None, (from_engine, each["note"])))
        table.add_row(each["stage"], each["engine"] or each["site"], drawn, took, note)
    return table


def _bar(begin: float, end: float, length: int) -> str:
    """From one share of the line to another, a character at least."""
    first = min(length - 1, max(0, int(begin * length)))
    last = max(first + 1, min(length, round(end * length)))
    return " " * first + "━" * (last - first)
