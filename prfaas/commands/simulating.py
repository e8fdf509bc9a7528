"""What `prfaas simulate` does: runs the policies of a scenario, and shows them side by side."""

import json
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from prfaas.errors import ConfigError
from prfaas.planner.simulator.compare import compare
from prfaas.planner.simulator.contestants import CONTESTANTS, Contestant
from prfaas.planner.simulator.outcome import Outcome
from prfaas.planner.simulator.scenario_file import Study, load_scenario

ROWS = (
    *("goodput, req/s", "least and most", "good, %", "TTFT p50, s", "TTFT p90, s", "TTFT p99, s", "token p90, ms"),
    *("remote, %", "cached, %", "retried", "refused", "failed", "conversions"),
)

Outcomes = dict[Contestant, list[Outcome]]
"""By policy, one a seed."""


def run_simulation(path: Path, policies: list[str], *, is_json: bool) -> None:
    """Read, run with a bar on stderr, print."""
    study = load_scenario(path)
    outcomes = _run(study, _contestants(policies) or study.contestants)
    if is_json:
        print(json.dumps(_tree(study, outcomes), indent=2))
        return
    _print(study, outcomes, Console(highlight=False))


def _contestants(names: list[str]) -> tuple[Contestant, ...]:
    found = tuple(each for each in CONTESTANTS if each in names)
    if unknown := set(names) - set(found):
        raise ConfigError(f"--policy {', '.join(sorted(unknown))}: there are {', '.join(CONTESTANTS)}")
    return found


def _run(study: Study, contestants: tuple[Contestant, ...]) -> Outcomes:
    outcomes: Outcomes = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=study.expected)
        for at, scenario in enumerate(study.scenarios):

            def begin(name: str, at: int = at) -> Any:
                progress.reset(task, description=f"seed {at + 1} of {len(study.scenarios)}, {name}")
                return lambda count: progress.advance(task, count)

            for name, outcome in compare(scenario, contestants, study.given, begin).items():
                outcomes.setdefault(name, []).append(outcome)
    return outcomes


def _print(study: Study, outcomes: Outcomes, console: Console) -> None:
    scenario, some = study.scenarios[0], next(iter(outcomes.values()))
    offered, promise, count = fmean(each.offered_requests_s for each in some), scenario.promise, len(some)
    console.print(scenario.name)
    console.print(f"{some[0].arrived:,} requests, {offered:.3g} a second" + (f"; means of {count} seeds" * (count > 1)))
    pace_ms = promise.token_s * 1000
    console.print(f"good: the first token within {promise.first_token_s:g} s, the others every {pace_ms:g} ms")
    table = Table(box=box.SIMPLE)
    for at, heading in enumerate(("", *outcomes)):
        table.add_column(heading, justify="right" if at else "left")
    for row in zip(ROWS, *(_cells(runs) for runs in outcomes.values()), strict=True):
        table.add_row(*row)
    console.print(table)


def _cells(runs: list[Outcome]) -> list[str]:
    def mean(figure: str) -> float:
        return fmean(getattr(each, figure) for each in runs)

    goodputs = [each.goodput_requests_s for each in runs]
    return [
        f"{mean('goodput_requests_s'):.3f}",
        f"{min(goodputs):.2f}-{max(goodputs):.2f}" if len(runs) > 1 else "",
        f"{100 * mean('good_share'):.1f}",
        *(f"{mean(f'first_token_{each}_s'):.2f}" for each in ("p50", "p90", "p99")),
        f"{1000 * mean('token_p90_s'):.1f}",
        f"{100 * fmean(each.remote / max(each.arrived, 1) for each in runs):.1f}",
        f"{100 * mean('cached_share'):.1f}",
        *(f"{mean(each):.0f}" for each in ("retried", "refused", "failed")),
        f"{fmean(len(each.conversions) for each in runs):.1f}",
    ]


def _tree(study: Study, outcomes: Outcomes) -> dict[str, Any]:
    return {
        "scenario": study.scenarios[0].name,
        "policies": {name: [asdict(each) for each in runs] for name, runs in outcomes.items()},
    }
