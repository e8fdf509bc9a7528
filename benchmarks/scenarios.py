"""Goodput at the SLO of each policy in a simulated fleet: a trace, bursts, drift, prefix hits, failing links and sites.

    python -m benchmarks.scenarios [--only NAME] [--seed 1] [--million]

Nothing is measured on engines: the paper's profiles go through the simulator, which calls the gateway's own router and
controller. The H20's profile is circular (see benchmarks.case_study). What the oracle is, is said in
``prfaas/planner/simulator/oracle.py``. With --million the case study is simulated for a million requests instead, for
the simulator's own speed and memory.
"""

import argparse
import resource
import time
from collections.abc import Callable

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks import report
from benchmarks.scenario_fleets import LENGTHS, PROMISE, fleet, scenarios
from prfaas.planner.simulator.arrivals import Synthetic
from prfaas.planner.simulator.compare import compare
from prfaas.planner.simulator.contestants import CONTESTANTS, Contestant
from prfaas.planner.simulator.outcome import Outcome
from prfaas.planner.simulator.policies import Setting
from prfaas.planner.simulator.run import simulate
from prfaas.planner.simulator.situation import split_engines
from prfaas.planner.simulator.spec import Scenario

WANTED_VS_ORACLE, WANTED_VS_ALL_LOCAL = 0.95, 0.98
MILLION, MILLION_REQUESTS_S = 1_000_000, 2.6

Outcomes = dict[Contestant, Outcome]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scenarios", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", help="the scenarios whose names begin so")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--million", action="store_true", help="measure the simulator itself")
    options = parser.parse_args()
    console = Console(width=110, highlight=False)
    if options.million:
        report.emit("scenarios", million(options.seed))
        return
    results: dict[str, Outcomes] = {}
    chosen = [each for each in scenarios(options.seed) if each.name.startswith(options.only or "")]
    for scenario in chosen:
        results[scenario.name] = run(scenario)
        console.print(_row(scenario.name, results[scenario.name]))
    _print(console, results)
    report.emit("scenarios", figures(results))


def run(scenario: Scenario) -> Outcomes:
    """All policies in one scenario, with a bar on stderr."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(scenario.name, total=sum(1 for _ in scenario.arrivals()))

        def begin(name: str) -> Callable[[int], None]:
            progress.reset(task, description=f"{scenario.name}: {name}")
            return lambda count: progress.advance(task, count)

        outcomes = compare(scenario, begin=begin)
        outcomes["homogeneous"] = _best_all_local(scenario, outcomes["homogeneous"], begin)
        return outcomes


def _best_all_local(scenario: Scenario, planned: Outcome, begin: Callable[[str], Callable[[int], None]]) -> Outcome:
    """The division that simulation prefers, whatever the planner does."""
    divisions = range(1, len(split_engines(scenario.fleet)))
    settings = [Setting("homogeneous", None, engines) for engines in divisions[:: max(1, len(divisions) // 16)]]
    runs = [simulate(scenario, setting, begin(setting.name)) for setting in settings]
    return max([planned, *runs], key=lambda each: each.good)


def figures(results: dict[str, Outcomes]) -> dict[str, object]:
    """The keys of the goal, and every policy's goodput."""
    against = {
        name: outcomes["controller"].good / max(outcomes["oracle"].good, 1) for name, outcomes in results.items()
    }
    local = {
        name: outcomes["controller"].good / max(outcomes["homogeneous"].good, 1) for name, outcomes in results.items()
    }
    conversions = {name: outcomes["controller"].max_conversions_per_hour for name, outcomes in results.items()}
    return {
        "min_vs_oracle": round(min(against.values()), 4),
        "min_vs_all_local": round(min(local.values()), 4),
        "max_conversions_per_hour": max(conversions.values()),
        "is_within_goal": min(against.values()) >= WANTED_VS_ORACLE and min(local.values()) >= WANTED_VS_ALL_LOCAL,
        "vs_oracle": {name: round(share, 4) for name, share in against.items()},
        "conversions_per_hour": conversions,
        "goodput_requests_s": {
            name: {policy: round(each.goodput_requests_s, 3) for policy, each in outcomes.items()}
            for name, outcomes in results.items()
        },
        "offered_requests_s": {
            name: round(outcomes["controller"].offered_requests_s, 3) for name, outcomes in results.items()
        },
    }


def million(seed: int) -> dict[str, object]:
    """The case study under the planned threshold: processor seconds, and memory at a tenth and at the end."""
    keys: dict[str, object] = {}
    for count in (MILLION // 10, MILLION):
        arrivals = Synthetic(MILLION_REQUESTS_S, count / MILLION_REQUESTS_S, LENGTHS, 1024, seed)
        scenario = Scenario("million", fleet(), arrivals, PROMISE)
        began_s = time.process_time()
        outcome = simulate(scenario, Setting("fixed", 19_400, 3))
        seconds = time.process_time() - began_s
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"  {outcome.arrived:,} requests: {seconds:.1f} s of processor, peak memory {peak_mib:.0f} MiB", flush=True
        )
        keys |= {
            f"requests_{count}": outcome.arrived,
            f"cpu_s_{count}": round(seconds, 2),
            f"mib_{count}": round(peak_mib),
        }
    return keys


def _row(name: str, outcomes: Outcomes) -> str:
    shares = "  ".join(f"{policy} {each.good_share:.1%}" for policy, each in outcomes.items())
    return f"{name}: {shares}"


def _print(console: Console, results: dict[str, Outcomes]) -> None:
    table = Table(title="Goodput at the SLO, requests/s", box=box.SIMPLE, title_justify="left")
    for at, heading in enumerate(("scenario", "offered", *CONTESTANTS, "/ oracle", "conversions/h")):
        table.add_column(heading, justify="right" if at else "left")
    for name, outcomes in results.items():
        controller, best = outcomes["controller"], outcomes["oracle"]
        cells = [f"{outcomes[policy].goodput_requests_s:.3f}" for policy in CONTESTANTS]
        share = f"{controller.good / max(best.good, 1):.3f}"
        offered = f"{best.offered_requests_s:.3f}"
        table.add_row(name, offered, *cells, share, str(controller.max_conversions_per_hour))
    console.print(table)


if __name__ == "__main__":
    main()
