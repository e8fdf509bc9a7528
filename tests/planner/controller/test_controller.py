"""The controller in a closed loop with a small fluid model of a fleet."""

from prfaas.planner.controller.controller import TwoScaleController
from tests.planner import cases
from tests.planner.controller.fluid import FluidFleet, run


def test_a_prefill_bound_fleet_gets_more_prefill_engines() -> None:
    """One of eight prefills and 12 requests/s arrive: engines are converted one after the other, and it stays so."""
    controller = TwoScaleController(2000, local=cases.LOCAL, remote=cases.REMOTE, slo=cases.SLO)
    seen = run(controller, FluidFleet(prefill=1, decode=7, remote=1), 1800, 12.0)
    conversions = [each for second in seen for each in second.advice.conversions]
    assert conversions
    assert {each.role for each in conversions} == {"prefill"}
    assert seen[-1].prefill_engines == 1 + len(conversions)
