"""Engines, tenants and requests by their load: what it is made of, and as text."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from prfaas.commands.figures import count, seconds
from prfaas.commands.tables import Cell, Column, fitting
from prfaas.commands.views.status import engine_state

Json = Mapping[str, Any]

WINDOW_S = 60.0
"""Rates of tenants are of so long, or of as far back as the kept decisions reach."""
MAX_ROWS = 15
"""Of each table: who has less load than these is no answer to the question."""
ENGINE_FIGURES = ("name", "site", "roles", "state", "breaker", "inflight", "capacity", "waiting_tokens", "wait_s")
ENGINES = (
    Column("engine"),
    Column("site", 60),
    Column("does", 70),
    Column("state", 50),
    Column("in flight", is_number=True),
    Column("tokens waiting", is_number=True),
    Column("wait", 60, is_number=True),
)
TENANTS = (
    Column("tenant"),
    Column("running", is_number=True),
    Column("requests/s", is_number=True),
    Column("prompt tokens/s", 60, is_number=True),
    Column("waited, mean", 80, is_number=True),
)
REQUESTS = (
    Column("request"),
    Column("tenant", 110),
    Column("for", is_number=True),
    Column("prompt", 60, is_number=True),
    Column("decode"),
    Column("prefill", 60),
    Column("first token", 100, is_number=True),
    Column("why", 120, is_text=True),
)


def ranked(status: Json, decisions: Sequence[Json]) -> dict[str, Any]:
    """Those with the most load first. Seconds and tokens; rates are of the window at most."""
    now_s = status["gateway"]["unix_s"]
    engines = [{figure: each[figure] for figure in ENGINE_FIGURES} for each in status["engines"]]
    engines.sort(key=lambda each: (-each["waiting_tokens"], -each["inflight"]))
    running = [_running(each, now_s) for each in decisions if each["outcome"] == "running"]
    running.sort(key=lambda each: -(each["prompt_tokens"] or 0))
    return {"engines": engines, "tenants": _tenants(decisions, now_s), "requests": running}


def draw(told: Json, width: int) -> RenderableType:
    """Three tables."""
    parts: list[RenderableType] = []
    tables = (("engines", ENGINES, _engine), ("tenants", TENANTS, _tenant), ("requests", REQUESTS, _request))
    for name, columns, row in tables:
        rows = told[name]
        parts.append(fitting(columns, map(row, rows[:MAX_ROWS]), width, f"{name}: {len(rows)}"))
        if len(rows) > MAX_ROWS:
            parts.append(Text(f"and {len(rows) - MAX_ROWS} with less load", "dim"))
    return Group(*parts)


def _running(each: Json, now_s: float) -> dict[str, Any]:
    return {
        "request_id": each["request_id"],
        "tenant": each["tenant"],
        "for_s": max(0.0, now_s - each["arrived_unix_s"]),
        "prompt_tokens": each["prompt_tokens"],
        "decode": each["decode"],
        "prefill": each["prefill"],
        "first_output_s": each["first_output_s"],
        "reasons": each["reasons"],
    }


def _tenants(decisions: Sequence[Json], now_s: float) -> list[dict[str, Any]]:
    """By prompt tokens a second. A decision that does not say when its request came counts in no rate."""
    oldest_s = min((each["arrived_unix_s"] for each in decisions if each["arrived_unix_s"]), default=now_s)
    window_s = max(1.0, min(WINDOW_S, now_s - oldest_s))
    by_tenant: defaultdict[str, list[Json]] = defaultdict(list)
    for each in decisions:
        by_tenant[each["tenant"]].append(each)
    found = []
    for tenant, theirs in by_tenant.items():
        recent = [each for each in theirs if each["arrived_unix_s"] >= now_s - window_s]
        found.append(
            {
                "tenant": tenant,
                "running": sum(each["outcome"] == "running" for each in theirs),
                "requests_s": len(recent) / window_s,
                "prompt_tokens_s": sum(each["prompt_tokens"] or 0 for each in recent) / window_s,
                "mean_waited_s": sum(each["waited_s"] for each in recent) / len(recent) if recent else None,
            }
        )
    return sorted(found, key=lambda each: (-each["prompt_tokens_s"], -each["running"]))


def _engine(each: Json) -> tuple[Cell, ...]:
    full = f"/{each['capacity']}" if each["capacity"] is not None else ""
    return (
        each["name"],
        each["site"],
        "+".join(each["roles"]),
        engine_state(each),
        f"{each['inflight']}{full}",
        count(each["waiting_tokens"]),
        seconds(each["wait_s"]),
    )


def _tenant(each: Json) -> tuple[Cell, ...]:
    return (
        each["tenant"] or "(everybody)",
        count(each["running"]),
        f"{each['requests_s']:.2f}",
        count(each["prompt_tokens_s"]),
        seconds(each["mean_waited_s"]),
    )


def _request(each: Json) -> tuple[Cell, ...]:
    return (
        each["request_id"],
        each["tenant"],
        seconds(each["for_s"]),
        count(each["prompt_tokens"]),
        each["decode"],
        each["prefill"] or "",
        seconds(each["first_output_s"]),
        "; ".join(each["reasons"]),
    )
