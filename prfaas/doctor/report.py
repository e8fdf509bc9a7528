"""What a doctor tells: the document for tools, and the text for people."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from prfaas.doctor.finding import Finding, Level
from prfaas.doctor.run import Outcome

STYLES = {Level.PROBLEM: "bold red", Level.WARNING: "yellow", Level.NOTE: "cyan"}
_TEXTS = {"type": "array", "items": {"type": "string"}}
_STRICT = {"additionalProperties": False}
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["site", "is_fine", "counts", "checks"],
    "properties": {
        "site": {"type": "string"},
        "is_fine": {"type": "boolean", "description": "no problem was found; exit code 0"},
        "counts": {
            "type": "object",
            "required": [str(level) for level in Level],
            "properties": {str(level): {"type": "integer", "minimum": 0} for level in Level},
            **_STRICT,
        },
        "checks": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "took_s", "findings", "seen", "figures"],
                "properties": {
                    "name": {"type": "string"},
                    "took_s": {"type": "number", "minimum": 0},
                    "seen": _TEXTS,
                    "figures": {"type": "object", "additionalProperties": {"type": "number"}},
                    "findings": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["code", "level", "where", "what", "why", "way_out"],
                            "properties": {
                                "level": {"enum": [str(level) for level in Level]},
                                **{key: {"type": "string"} for key in ("code", "where", "what", "why", "way_out")},
                            },
                            **_STRICT,
                        },
                    },
                },
                **_STRICT,
            },
        },
    },
    **_STRICT,
}
"""Of ``document``."""


def is_fine(outcomes: Sequence[Outcome], *, is_strict: bool = False) -> bool:
    """Whether nothing stands in the way; with ``is_strict`` nothing that is going to, either."""
    bad = (Level.PROBLEM, Level.WARNING) if is_strict else (Level.PROBLEM,)
    return not any(each.level in bad for outcome in outcomes for each in outcome.findings)


def document(site: str, outcomes: Sequence[Outcome], *, is_strict: bool = False) -> dict[str, Any]:
    """All of it in plain values (``SCHEMA``)."""
    counts = Counter(each.level for outcome in outcomes for each in outcome.findings)
    return {
        "site": site,
        "is_fine": is_fine(outcomes, is_strict=is_strict),
        "counts": {str(level): counts[level] for level in Level},
        "checks": [
            {
                "name": outcome.name,
                "took_s": round(outcome.took_s, 3),
                "findings": [asdict(each) for each in outcome.findings],
                "seen": list(outcome.checked.seen),
                "figures": dict(outcome.checked.figures),
            }
            for outcome in outcomes
        ],
    }


def show(console: Console, site: str, outcomes: Sequence[Outcome]) -> None:
    """Each check with what it saw, and what it found: what, why, what to type."""
    console.print(f"site {site}", markup=False)
    for outcome in outcomes:
        worst = outcome.findings[0].level if outcome.findings else None
        mark = Text("ok", style="green") if worst is None else Text(str(worst), style=STYLES[worst])
        console.print(Text.assemble("\n", (outcome.name, "bold"), "  ", mark))
        for line in outcome.checked.seen:
            console.print(Text(f"  {line}", style="dim"))
        for each in outcome.findings:
            _show(console, each)
    counts = Counter(each.level for outcome in outcomes for each in outcome.findings)
    told = ", ".join(f"{counts[level]} {level}{'s' if counts[level] != 1 else ''}" for level in Level if counts[level])
    console.print(Text(f"\n{told or 'nothing found: ready for traffic'}"))


def _show(console: Console, each: Finding) -> None:
    console.print(Text.assemble("  ", (each.level, STYLES[each.level]), " ", (each.where, "bold"), f": {each.what}"))
    console.print(Text(f"      why   {each.why}  [{each.code}]"))
    console.print(Text(f"      do    {each.way_out}"))


def one_line(each: Finding) -> str:
    """A finding where there is room for a line: what is wrong, and the way out."""
    return f"{each.where}: {each.what}: {each.way_out}"
