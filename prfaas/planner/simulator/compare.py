"""Contestants side by side in one scenario."""

from collections.abc import Callable, Sequence

from prfaas.planner.simulator.contestants import CONTESTANTS, Contestant, Given, settings_for
from prfaas.planner.simulator.oracle import oracle
from prfaas.planner.simulator.outcome import Outcome
from prfaas.planner.simulator.policies import Setting
from prfaas.planner.simulator.run import Progress, simulate
from prfaas.planner.simulator.spec import Scenario

Begin = Callable[[str], Progress]
"""Told the name of each run before it begins; returns whom to tell of its progress."""


def compare(
    scenario: Scenario,
    contestants: Sequence[Contestant] = CONTESTANTS,
    given: Given | None = None,
    begin: Begin | None = None,
) -> dict[Contestant, Outcome]:
    """Run each, in the order of ``CONTESTANTS``; the oracle is found among the runs of all others."""

    def run(setting: Setting) -> Outcome:
        return simulate(scenario, setting, begin(setting.name) if begin else None)

    settings = settings_for(scenario, given)
    wanted = settings if "oracle" in contestants else [name for name in settings if name in contestants]
    outcomes = {name: run(settings[name]) for name in wanted}
    if "oracle" in contestants:
        outcomes["oracle"] = oracle(scenario, outcomes.values(), run)
    return {name: outcomes[name] for name in CONTESTANTS if name in contestants}
