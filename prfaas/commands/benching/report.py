"""What the answers come to, by placement: percentiles, tables, JSON."""

import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from prfaas.commands.benching.load import Answer, Answers, Load
from prfaas.commands.exits import FAILED, FINE
from prfaas.commands.figures import count, seconds
from prfaas.commands.output import console, print_json
from prfaas.commands.tables import Column, fitting
from prfaas.gateway.status.recent import quantile

SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
COLUMNS = (
    Column("placement"),
    Column("requests", is_number=True),
    Column("failed", 50, is_number=True),
    Column("prompt, mean", 90, is_number=True),
    *(Column(f"TTFT {name}", 0 if name == "p50" else 70, is_number=True) for name in SHARES),
    *(Column(f"ITL {name}", 60 if name == "p50" else 100, is_number=True) for name in SHARES),
    Column("tokens/s", 80, is_number=True),
)


def report(load: Load, found: Answers, *, as_json: bool) -> int:
    """Print it. Returns the exit code."""
    told = summary(load, found)
    if as_json:
        print_json(told)
    else:
        _show(told, console())
    failed = [each.error for each in found.answers if each.error]
    if failed:
        print(f"prfaas: {len(failed)} of {len(found.answers)} requests failed, the first: {failed[0]}", file=sys.stderr)
    return FAILED if failed else FINE


def summary(load: Load, found: Answers) -> dict[str, Any]:
    """Figures of all, and of each placement. Seconds and tokens; null where nothing was measured.

    Gaps between tokens are of all tokens together, so that long answers count more.
    """
    placements = sorted({each.placement for each in found.answers if each.placement})
    groups = {name: [each for each in found.answers if each.placement == name] for name in placements}
    return {
        "url": load.base,
        "model": found.model,
        "requests": load.requests,
        "concurrency": load.concurrency,
        "prompt_tokens": list(load.prompt_tokens),
        "output_tokens": load.output_tokens,
        "seed": load.seed,
        "seconds": round(found.seconds, 4),
        "all": _figures(found.answers, found.seconds),
        "by_placement": {name: _figures(group, found.seconds) for name, group in groups.items()},
    }


def _figures(answers: Sequence[Answer], taken_s: float) -> dict[str, Any]:
    good = [each for each in answers if not each.error]
    first_s = sorted(each.first_s for each in good if each.first_s is not None)
    gaps_s = sorted(gap for each in good for gap in each.gaps_s)
    return {
        "requests": len(answers),
        "failed": len(answers) - len(good),
        "mean_prompt_tokens": sum(each.prompt_tokens for each in answers) / len(answers) if answers else None,
        "ttft_s": {name: _rounded(quantile(first_s, share)) for name, share in SHARES.items()},
        "itl_s": {name: _rounded(quantile(gaps_s, share)) for name, share in SHARES.items()},
        "requests_s": round(len(good) / taken_s, 4) if taken_s else None,
        "output_tokens_s": round(sum(each.tokens for each in good) / taken_s, 3) if taken_s else None,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _show(told: dict[str, Any], screen: Console) -> None:
    screen.print(
        f"{told['model']} at {told['url']}: {told['requests']} requests, {told['concurrency']} at a time, "
        f"in {seconds(told['seconds'])}: {told['all']['requests_s']:.3g} a second",
        soft_wrap=True,
    )
    groups = {**told["by_placement"]}
    if [each["requests"] for each in groups.values()] != [told["requests"]]:
        groups["all"] = told["all"]
    screen.print(fitting(COLUMNS, [_row(name, each) for name, each in groups.items()], screen.width))


def _row(name: str, each: dict[str, Any]) -> tuple[str, ...]:
    return (
        name,
        count(each["requests"]),
        count(each["failed"]),
        count(each["mean_prompt_tokens"]),
        *(seconds(each["ttft_s"][share]) for share in SHARES),
        *(seconds(each["itl_s"][share]) for share in SHARES),
        count(each["output_tokens_s"]),
    )
