"""Which t and which division the demand calls for.

With the figures of ``tests.planner.cases``: three prompts of 1,000 tokens to one of 10,000. A local engine prefills
them in 0.2 and 2 s and decodes 5 requests/s, a remote one prefills in 0.1 and 1 s.
"""

import pytest

from prfaas.planner.controller.long_term import Outlook, allowed_thresholds, look
from prfaas.planner.controller.model import Counts, Cuts, Division, FleetModel
from prfaas.planner.controller.settings import ControllerSettings
from tests.planner import cases

GBIT_S = 1e9 / 8
SETTINGS = ControllerSettings(target_utilisation=0.8, threshold_margin=0.03)


def model(remote_engines: int = 1, egress_bytes_s: float = GBIT_S, output_tokens: float = 100) -> FleetModel:
    sites = ((remote_engines, egress_bytes_s),) if remote_engines else ()
    return FleetModel(cases.LOCAL, cases.REMOTE, cases.workload(output_tokens), cases.SLO, sites)


def outlook(
    counts: Counts,
    demand: float,
    threshold: int | None = 5000,
    settings: ControllerSettings = SETTINGS,
    fleet: FleetModel | None = None,
) -> Outlook:
    return look(fleet or model(), counts, threshold, demand, settings, is_divided=True)


def test_the_best_threshold_parts_the_short_prompts_from_the_long() -> None:
    """From "all local" to the end of the bin of 1,000 tokens; from there or from 5,000 it does not move."""
    found = outlook(Counts(1, 1), 1.0, threshold=None)
    assert found.now.threshold_tokens == 1023
    assert found.threshold_reason == (
        "with 1,023 prefill and links let 4 requests/s through, with none (all local) only 1.54"
    )
    for kept in (1023, 5000):
        again = outlook(Counts(1, 1), 1.0, threshold=kept)
        assert (again.now.threshold_tokens, again.threshold_reason) == (kept, "")


def test_without_a_remote_site_all_is_local() -> None:
    """Whatever t was, and without a gain to be asked for."""
    found = outlook(Counts(1, 1), 1.0, fleet=model(remote_engines=0))
    assert found.now.threshold_tokens is None
    assert found.now.requests_s == pytest.approx(1 / 0.65)


def test_a_threshold_keeps_to_its_bounds() -> None:
    """Between them, or nothing remote at all."""
    bounds = ControllerSettings(min_threshold_tokens=2000, max_threshold_tokens=4000)
    assert allowed_thresholds(model(), bounds) == [2000, None]
    assert outlook(Counts(1, 1), 1.0, None, bounds).now.threshold_tokens == 2000


def test_nobody_converts_for_what_nobody_needs() -> None:
    """1 : 5 serves 4 requests/s; 3 are 75 % of that, and 3.3 are above 80 %."""
    fleet = model(remote_engines=1)
    assert outlook(Counts(1, 5), 3.0, fleet=fleet).reason == ""
    assert outlook(Counts(1, 5), 3.3, fleet=fleet).reason != ""


def test_a_prefill_bound_fleet_wants_more_prefill() -> None:
    """Nothing remote, 1 : 7, and 5 requests/s: prefill allows 1 / 0.65. 5 : 3 serve 7.7, which is 5 / 0.8 and more,
    with the fewest conversions."""
    found = outlook(Counts(1, 7), 5.0, fleet=model(remote_engines=0))
    assert (found.wanted.prefill_engines, found.wanted.decode_engines) == (5, 3)
    assert found.reason == ("local prefill binds at 1.54 requests/s, and 5 arrive: 5P:3D serve 7.69")


def test_a_decode_bound_fleet_wants_more_decode() -> None:
    """5 : 1 and 6 requests/s of four times the output: 1.25 a decode engine. 2 : 4 decode 5 and prefill 4 and more."""
    found = outlook(Counts(5, 1), 6.0, fleet=model(remote_engines=4, output_tokens=400))
    assert found.wanted.decode_engines > 1
    assert found.reason.startswith("local decode binds at 1.25 requests/s")


@pytest.mark.parametrize("engines", [8, 1000])
def test_a_plan_takes_no_longer_for_many_engines(engines: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand engines are looked at in steps, so that the division is within a few of the best one."""
    made: list[int] = []
    division = Cuts.division

    def counted(self: Cuts, counts: Counts, at: int = -1) -> Division:
        made.append(at)
        return division(self, counts, at)

    monkeypatch.setattr(Cuts, "division", counted)
    demand = 0.75 * engines
    found = outlook(Counts(engines // 8, engines - engines // 8), demand, fleet=model(remote_engines=0))
    assert len(made) < 60
    assert found.wanted.requests_s >= demand / SETTINGS.target_utilisation
    needed = demand / SETTINGS.target_utilisation * 0.65
    assert 0 <= found.wanted.prefill_engines - needed <= 1 + engines / 32


def test_of_many_engines_both_ends_are_looked_at() -> None:
    """The other site could prefill everything: all but one of a thousand engines decode."""
    found = outlook(Counts(500, 500), 4500, fleet=model(remote_engines=2000, egress_bytes_s=1e12))
    assert found.wanted.prefill_engines == 1


def test_bounds_on_the_division_hold() -> None:
    """At least two prefill and three decode; engines that may not be converted stay."""
    tight = ControllerSettings(min_prefill_engines=2, min_decode_engines=3)
    swamped = outlook(Counts(1, 5), 100.0, settings=tight, fleet=model(remote_engines=0))
    assert (swamped.wanted.prefill_engines, swamped.wanted.decode_engines) == (3, 3)
    fixed = outlook(Counts(1, 5, fixed_decode=4), 100.0, fleet=model(remote_engines=0))
    assert fixed.wanted.decode_engines == 4
    nobody = outlook(Counts(1, 5, fixed_decode=5), 100.0, fleet=model(remote_engines=0))
    assert nobody.reason == ""


def test_the_last_decode_engine_stays() -> None:
    """However much prefill is missing; an engine that does both counts."""
    alone = outlook(Counts(1, 1), 100.0, fleet=model(remote_engines=0))
    assert alone.wanted.decode_engines == 1
    shared = outlook(Counts(1, 1, shared=1), 100.0, fleet=model(remote_engines=0))
    assert shared.wanted.decode_engines + shared.wanted.shared_engines >= 1


def test_a_small_gain_is_no_reason() -> None:
    """30 : 30 against 31 : 29, both too small for the demand: less than 5 % more."""
    fleet = model(remote_engines=0, output_tokens=290)
    found = outlook(Counts(30, 30), 1000.0, fleet=fleet)
    best = max(fleet.cut([None]).division(Counts(each, 60 - each)).requests_s for each in range(1, 60))
    assert best > found.now.requests_s * 1.01
    assert best < found.now.requests_s * 1.05
    assert found.reason == ""


def test_engines_drain_together_where_the_others_suffice() -> None:
    """1 : 7 and 5 requests/s want 5 : 3. Seven decode engines do 35, and one alone all that arrives: four at once. With
    20 arriving four have to stay, so three at once."""
    assert outlook(Counts(1, 7), 5.0, fleet=model(remote_engines=0)).at_once == 4
    found = outlook(Counts(1, 7), 20.0, fleet=model(remote_engines=0))
    assert found.at_once == 3
    assert found.draining.decode_engines == 4


def test_a_division_that_may_not_change_is_not_judged() -> None:
    """Only t is planned while nobody knows how much is decoded."""
    found = look(model(), Counts(1, 7), None, 100.0, SETTINGS, is_divided=False)
    assert found.wanted is found.now
    assert found.reason == ""
