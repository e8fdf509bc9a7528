"""The oracle: the best that is found in hindsight, which nobody can reach who has to find out as it happens.

The scenario is cut into phases, at its changes and every so often. For each phase the planner is told the phase's own
lengths, engines and bandwidth, and gives the best threshold for each of its best divisions. All of these settings are
simulated through the whole scenario; then two schedules are: in each phase the planner's optimum, and in each phase
whichever setting had the most good answers to requests of that phase. Roles change with the phase, at once and for
nothing. The oracle is the run with the most good answers among all of these and those of the other contestants.

So it is a lower bound of what is possible, and an upper one of all that is compared with it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from prfaas.errors import ConfigError
from prfaas.planner.plan import Plan
from prfaas.planner.simulator.contestants import planned, slo_of
from prfaas.planner.simulator.outcome import SLICE_S, Outcome
from prfaas.planner.simulator.policies import Phase, Setting
from prfaas.planner.simulator.situation import boundaries_s, hardware_of, split_engines, workload_of
from prfaas.planner.simulator.spec import Scenario

DIVISIONS = 3
"""The best divisions of each phase that are simulated; queues may prefer another than the planner."""

Run = Callable[[Setting], Outcome]


def oracle(scenario: Scenario, others: Iterable[Outcome], run: Run, every_s: float = 1800.0) -> Outcome:
    """Find it; ``others`` are the contestants' runs, ``run`` simulates a setting in this scenario."""
    best = max(others, key=_good)
    end_s = max((arrival.at_s for arrival in scenario.arrivals()), default=0.0)
    starts_s = list(boundaries_s(scenario, every_s, end_s))
    plans = [_plans(scenario, begin_s, end_s) for begin_s, end_s in zip(starts_s, [*starts_s[1:], end_s], strict=True)]
    settings = {_key(plan): plan for phase in plans for plan in phase}
    runs = {key: run(Setting("oracle", *key)) for key in settings}
    schedules = [_planned(starts_s, plans)]
    if runs:
        schedules.append(_chosen(starts_s, end_s, runs))
    found = [*runs.values(), *(run(_setting(phases)) for phases in schedules if len(phases) > 1)]
    return replace(max([best, *found], key=_good), setting="oracle")


def _plans(scenario: Scenario, begin_s: float, end_s: float) -> list[Plan]:
    """Of one phase, the best first."""
    hardware, count = hardware_of(scenario.fleet, scenario.changes, begin_s), len(split_engines(scenario.fleet))
    if hardware is None:
        return []
    try:
        workload = workload_of(scenario, begin_s, end_s)
    except ConfigError:
        return []  # a phase without a request
    found = [planned(hardware, workload, slo_of(scenario), engines) for engines in range(count)]
    return sorted((plan for plan in found if plan), key=lambda plan: -plan.requests_s)[:DIVISIONS]


def _planned(starts_s: Sequence[float], plans: Sequence[list[Plan]]) -> list[Phase]:
    return [Phase(at_s, *_key(phase[0])) for at_s, phase in zip(starts_s, plans, strict=True) if phase]


def _chosen(starts_s: Sequence[float], end_s: float, runs: dict[tuple[int | None, int], Outcome]) -> list[Phase]:
    """In each phase the setting whose run had the most good answers there."""
    phases = []
    for begin_s, until_s in zip(starts_s, [*starts_s[1:], end_s + SLICE_S], strict=True):
        first, last = round(begin_s / SLICE_S), round(until_s / SLICE_S)
        key = max(runs, key=lambda each: sum(runs[each].good_by_slice[first:last]))
        phases.append(Phase(begin_s, *key))
    return phases


def _setting(phases: Sequence[Phase]) -> Setting:
    return Setting("oracle", phases[0].threshold_tokens, phases[0].prefill_engines, phases=tuple(phases))


def _key(plan: Plan) -> tuple[int | None, int]:
    return plan.threshold_tokens, plan.prefill_engines


def _good(outcome: Outcome) -> int:
    return outcome.good
