"""`/prfaas/status` as text: trouble first."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from prfaas.commands.figures import count, rate, seconds, share, size
from prfaas.commands.tables import Cell, Column, fitting

Json = Mapping[str, Any]

STATE_STYLES = {"healthy": "green", "unhealthy": "bold red"}
"""All others take no new requests, because somebody says so."""
ENGINES = (
    Column("engine"),
    Column("site", 60),
    Column("does", 70),
    Column("state"),
    Column("for", 90),
    Column("in flight", is_number=True),
    Column("tokens waiting", 60, is_number=True),
    Column("wait", 100, is_number=True),
    Column("tokens/s", 110, is_number=True),
    Column("cached", 80, is_number=True),
    Column("problem", is_text=True),
)
LINKS = (
    Column("link"),
    Column("load", is_number=True),
    Column("of", 60, is_number=True),
    Column("used", is_number=True),
    Column("reached", 80, is_number=True),
    Column("RTT", 70, is_number=True),
    Column("on the way", 90, is_number=True),
    Column("requests", 100, is_number=True),
    Column("budget left", 120, is_number=True),
    Column("state", is_text=True),
)


def draw(told: Json, width: int) -> RenderableType:
    """All of it."""
    engines = sorted(told["engines"], key=lambda each: each["healthy"] and not each["broken"])
    parts: list[RenderableType] = [Text(_head(told)), fitting(ENGINES, map(_engine, engines), width)]
    if told["links"]:
        parts.append(fitting(LINKS, map(_link, told["links"]), width))
    return Group(*parts, *map(Text, _below(told)))


def engine_state(engine: Json) -> Text:
    """Its state in a word; a breaker that is not closed counts more than the last probe."""
    word = engine["state"]
    if word == "healthy" and engine["breaker"] != "closed":
        return Text(f"breaker {engine['breaker'].replace('_', ' ')}", "bold red")
    return Text(word, STATE_STYLES.get(word, "yellow"))


def _head(told: Json) -> str:
    gateway = told["gateway"]
    sites = ", ".join(
        f"{each['name']}{' (here)' if each['is_local'] else ''} {each['healthy_engines']}/{each['engines']}"
        for each in told["sites"]
    )
    heard = gateway.get("heard_workers", gateway["workers"])  # an older gateway does not say
    workers = _workers(heard, gateway["workers"])
    up = seconds(gateway["uptime_s"])
    return f"{gateway['model']} · prfaas {gateway['version']}, up {up}{workers} · engines in service: {sites}"


def _workers(heard: int, workers: int) -> str:
    if heard < workers:
        return f" · {heard} of {workers} workers answer: requests of the others are missing"
    return f" · {workers} workers" if workers > 1 else ""


def _engine(each: Json) -> tuple[Cell, ...]:
    reused = each["recent_reused_tokens"] / each["recent_prompt_tokens"] if each["recent_prompt_tokens"] else None
    return (
        each["name"],
        each["site"],
        "+".join(each["roles"]),
        engine_state(each),
        seconds(each["state_for_s"]),
        f"{each['inflight']}" if each["capacity"] is None else f"{each['inflight']}/{each['capacity']}",
        count(each["waiting_tokens"]),
        seconds(each["wait_s"]),
        count(each["prefill_tokens_s"]),
        share(reused),
        Text(each["problem"], "red"),
    )


def _link(each: Json) -> tuple[Cell, ...]:
    words = [word for word in ("congested", "scarce", "broken") if each[word]]
    return (
        f"{each['source']} → {each['target']}",
        rate(each["load_bytes_s"]),
        rate(each["bandwidth_bytes_s"]),
        share(each["utilisation"]),
        rate(each["goodput_bytes_s"]),
        seconds(each["rtt_s"]),
        size(each["queued_bytes"]),
        count(each["requests"]),
        size(each["budget_left_bytes"]),
        Text(", ".join(words), "bold red" if words else "") if words else Text("well", "green"),
    )


def _below(told: Json) -> Iterator[str]:
    """What is no table: queues, threshold, conversions, the last change, the last requests."""
    admission, controller, recent = told["admission"], told["controller"], told["recent"]
    classes = ", ".join(f"{each['priority']} {each['waiting']}" for each in admission["classes"])
    yield f"requests: {admission['running']} of at most {admission['max_running']} run; waiting: {classes or 'none'}"
    yield f"threshold: {controller['threshold_tokens']} tokens{_wanted(controller)}; controller {controller['mode']}"
    for each in controller["conversions"]:
        yield f"converting: {each['engine']} to {each['role']}, for {seconds(each['for_s'])}"
    if (change := controller["last_change"]) is not None:
        reasons = "; ".join(change["reasons"])
        ago = seconds(max(0.0, told["gateway"]["unix_s"] - change["unix_s"]))
        yield f"last change: {change['what']}, {ago} ago" + (f" ({reasons})" if reasons else "")
    if controller["last_error"]:
        yield f"controller failed: {controller['last_error']}"
    yield _recent(recent)


def _wanted(controller: Json) -> str:
    wanted, configured = controller["wanted_threshold_tokens"], controller["configured_threshold_tokens"]
    said = [f"configured {configured}"] if configured != controller["threshold_tokens"] else []
    said += [f"wanted {wanted}"] if wanted not in (None, controller["threshold_tokens"]) else []
    return f" ({', '.join(said)})" if said else ""


def _recent(recent: Json) -> str:
    if not recent["requests"]:
        return "no requests yet"
    outcomes = ", ".join(f"{number} {outcome}" for outcome, number in sorted(recent["outcomes"].items()))
    reused = recent["reused_tokens"] / recent["prompt_tokens"] if recent["prompt_tokens"] else None
    first = f"first token p50 {seconds(recent['first_output_p50_s'])}, p95 {seconds(recent['first_output_p95_s'])}"
    return f"last {recent['requests']} requests: {outcomes}; {first}; cached {share(reused)} of their prompts"
