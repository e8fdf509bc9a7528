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

from prfaas.planner.plan import Plan
from prfaas.planner.simulator.contestants import planned, slo_of
from prfaas.planner.simulator.outcome import SLICE_S, Outcome
from prfaas.planner.simulator.policies import Phase, Setting
from prfaas.planner.simulator.situation import hardware_of, split_engines, workloads_of
from prfaas.planner.simulator.spec import Scenario
from prfaas.planner.workload import Workload

DIVISIONS = 3
"""The best divisions of each phase that are simulated; queues may prefer another than the planner."""
PHASE_S, MAX_PHASES = 1800.0, 48
"""Each phase costs up to ``DIVISIONS`` runs of the whole scenario."""

Run = Callable[[Setting], Outcome]


def oracle(scenario: Scenario, others: Iterable[Outcome], run: Run) -> Outcome:
    """Find it; ``others`` are the contestants' runs, ``run`` simulates a setting in this scenario."""
    best = max(others, key=_good)
    starts_s, end_s = _phases(scenario)
    plans = [
        _plans(scenario, begin_s, workload)
        for begin_s, workload in zip(starts_s, workloads_of(scenario, starts_s), strict=True)
    ]
    keys = dict.fromkeys(_key(plan) for phase in plans for plan in phase)
    runs = {key: run(Setting("oracle", *key)) for key in keys}
    schedules = [_planned(starts_s, plans), _chosen(starts_s, end_s, runs)]
    found = [*runs.values(), *(run(_setting(phases)) for phases in schedules if len(phases) > 1)]
    return replace(max([best, *found], key=_good), setting="oracle")


def _phases(scenario: Scenario) -> tuple[list[float], float]:
    """When each begins, from 0 on, and when the last one ends."""
    end_s = max((arrival.at_s for arrival in scenario.arrivals()), default=0.0)
    every_s = max(PHASE_S, end_s / MAX_PHASES)
    regular = {at * every_s for at in range(int(end_s / every_s) + 1)}
    return sorted(regular | {each.at_s for each in scenario.changes if each.at_s < end_s}), end_s


def _plans(scenario: Scenario, begin_s: float, workload: Workload | None) -> list[Plan]:
    """Of one phase, the best first."""
    hardware, count = hardware_of(scenario.fleet, scenario.changes, begin_s), len(split_engines(scenario.fleet))
    if hardware is None or workload is None:
        return []
    found = [planned(hardware, workload, slo_of(scenario), engines) for engines in _divisions(count)]
    return sorted((plan for plan in found if plan), key=lambda plan: -plan.requests_s)[:DIVISIONS]


def _divisions(engines: int) -> Iterable[int]:
    """Numbers of prefill engines: all, or of many engines some."""
    return range(0, engines, max(1, engines // 16))


def _planned(starts_s: Sequence[float], plans: Sequence[list[Plan]]) -> list[Phase]:
    return [Phase(at_s, *_key(phase[0])) for at_s, phase in zip(starts_s, plans, strict=True) if phase]


def _chosen(starts_s: Sequence[float], end_s: float, runs: dict[tuple[int | None, int], Outcome]) -> list[Phase]:
    """In each phase the setting whose run had the most good answers there."""
    phases: list[Phase] = []
    if not runs:
        return phases
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
