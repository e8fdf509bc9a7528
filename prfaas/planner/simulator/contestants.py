"""The settings that are compared, made from a scenario with the planner's help."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

from prfaas.errors import ConfigError
from prfaas.planner.controller.advice import Controller
from prfaas.planner.controller.controller import TwoScaleController
from prfaas.planner.hardware import Hardware
from prfaas.planner.plan import Plan
from prfaas.planner.search import all_local, plan
from prfaas.planner.simulator.policies import PREDICTIVE, Setting
from prfaas.planner.simulator.situation import hardware_of, opening_of, split_engines, workload_of
from prfaas.planner.simulator.spec import Scenario
from prfaas.planner.workload import Slo, Workload

Contestant = Literal["homogeneous", "naive", "fixed", "controller", "predictive", "oracle"]
CONTESTANTS: tuple[Contestant, ...] = get_args(Contestant)

OPENING_S = 1800.0
"""What the controller's first plan is made from: nobody who has to find out as it happens knows more."""
PREDICTIVE_TOKENS = 512
"""Below it a remote prefill is never sooner: the router's default t."""


@dataclass(frozen=True, slots=True)
class Given:
    """What an operator has chosen; None leaves it to the planner."""

    threshold_tokens: int | None = None
    prefill_engines: int | None = None


def settings_for(scenario: Scenario, given: Given | None = None) -> dict[Contestant, Setting]:
    """All but the oracle, which has to see the others' runs first.

    - ``homogeneous``: nothing remote, and the division that serves the most without the remote site.
    - ``naive``: everything remote, every local engine decodes.
    - ``fixed``: the planner's t and division for the average workload; or those that are given.
    - ``controller``: begins with the plan for the first half hour, or what is given, and the controller goes on.
    - ``predictive``: ``fixed``'s division, and the router's predictions.

    A fleet whose local engines do both is divided by nobody; then t has to be given.
    """
    given = given or Given()
    if not split_engines(scenario.fleet):
        return _undivided(scenario, given)
    hardware, workload, slo = _hardware(scenario), workload_of(scenario), slo_of(scenario)
    best = plan(hardware, workload, slo, prefill_engines=given.prefill_engines, averaging="each_length")
    here = all_local(hardware, workload, slo, averaging="each_length")
    threshold = best.threshold_tokens if given.threshold_tokens is None else given.threshold_tokens
    engines = best.prefill_engines
    opening = opening_of(scenario, OPENING_S) or workload
    first = plan(hardware, opening, slo, prefill_engines=given.prefill_engines, averaging="each_length")
    first_tokens = first.threshold_tokens if given.threshold_tokens is None else given.threshold_tokens
    controller = _controller(scenario, first_tokens)
    return {
        "homogeneous": Setting("homogeneous", None, here.prefill_engines),
        "naive": Setting("naive", 0, 0),
        "fixed": Setting("fixed", threshold, engines),
        "controller": Setting("controller", first_tokens, first.prefill_engines, controller=controller),
        "predictive": Setting("predictive", PREDICTIVE_TOKENS, engines, rules=PREDICTIVE),
    }


def slo_of(scenario: Scenario) -> Slo:
    """For the planner, which knows no queues: only the pace."""
    return Slo(scenario.promise.token_s)


def planned(hardware: Hardware, workload: Workload, slo: Slo, prefill_engines: int) -> Plan | None:
    """The best threshold with so many prefill engines, None where that serves nothing."""
    try:
        return plan(hardware, workload, slo, prefill_engines=prefill_engines, averaging="each_length")
    except ConfigError:
        return None


def _undivided(scenario: Scenario, given: Given) -> dict[Contestant, Setting]:
    threshold = given.threshold_tokens
    if threshold is None:
        raise ConfigError(
            f"{scenario.name}: its local engines prefill and decode, which the planner does not divide: give "
            "threshold_tokens"
        )
    return {
        "homogeneous": Setting("homogeneous", None),
        "naive": Setting("naive", 0),
        "fixed": Setting("fixed", threshold),
        "controller": Setting("controller", threshold, controller=_controller(scenario, threshold)),
        "predictive": Setting("predictive", PREDICTIVE_TOKENS, rules=PREDICTIVE),
    }


def _hardware(scenario: Scenario) -> Hardware:
    hardware = hardware_of(scenario.fleet)
    assert hardware is not None  # there are engines to divide
    if hardware.has_remote:
        return hardware
    return replace(hardware, remote=None, remote_engines=0, egress_bytes_s=0.0)


def _controller(scenario: Scenario, threshold_tokens: int | None) -> Callable[[], Controller]:
    fleet = scenario.fleet
    local = next(each.profile for each in fleet.engines if each.site == fleet.site and each.profile.decode is not None)
    remote = next((each.profile for each in fleet.engines if each.site != fleet.site), None)
    convertible = [each.name for each in split_engines(fleet) if each.profile.decode is not None]
    slo = slo_of(scenario)
    return lambda: TwoScaleController(threshold_tokens, local=local, remote=remote, slo=slo, convertible=convertible)
