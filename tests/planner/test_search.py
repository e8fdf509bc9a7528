"""Plans against divisions worked out by hand, and what is refused.

By hand, with the figures of ``cases``: of four requests three have 1,000 tokens and one 10,000; a threshold between
them makes p = 1/4. A remote engine prefills 10,000 tokens in 1 s, a local one 1,000 in 0.2 s; each decodes 5 a second.
"""

from dataclasses import replace

import pytest

from prfaas.errors import ConfigError
from prfaas.planner.curve import PiecewiseLinear, Quadratic
from prfaas.planner.hardware import Hardware
from prfaas.planner.lengths import EmpiricalLengths
from prfaas.planner.search import all_local, all_remote, evaluate, plan, purchases, threshold_step_tokens
from prfaas.planner.workload import Slo, Workload
from tests.planner import cases
from tests.planner.cases import SLO


def test_bound_by_remote_prefill() -> None:
    """One remote engine does 1 long request/s, so 4 of all; local prefill allows 6.67 and decode 5."""
    found = plan(cases.hardware(), cases.workload(), SLO)
    assert found.binding == "remote prefill"
    assert found.requests_s == pytest.approx(4.0)
    assert (found.prefill_engines, found.decode_engines) == (1, 1)
    assert found.threshold_tokens is not None
    assert 1000 <= found.threshold_tokens < 10_000
    assert [each.requests_s for each in found.stages] == pytest.approx([1.0, 12.5, 5.0, 5.0])
    assert [each.utilisation for each in found.stages] == pytest.approx([1.0, 0.08, 0.6, 0.8])
    assert (found.remote_share, found.long_tokens, found.short_tokens) == (0.25, 10_000, 1000)
    assert found.egress_bytes_s == pytest.approx(10e6)


def test_bound_by_the_link() -> None:
    """10 MB a cache over 5 MB/s is half a long request/s, so 2 of all; all local would be 1 / 0.65 s."""
    found = plan(cases.hardware(egress_bytes_s=5e6), cases.workload(), SLO)
    assert found.binding == "link"
    assert found.requests_s == pytest.approx(2.0)
    assert found.egress_bytes_s == pytest.approx(5e6)
    assert all_local(cases.hardware(), cases.workload(), SLO).requests_s == pytest.approx(1 / 0.65)


def test_bound_by_local_prefill() -> None:
    """With ten remote engines and a slow local one, 1 s for 1,000 tokens, a division by hand serves 1 / 0.75."""
    slow = cases.hardware(remote_engines=10, local=cases.engine(1e-3))
    found = evaluate(slow, cases.workload(), SLO, 5000, 1)
    assert found.binding == "local prefill"
    assert found.requests_s == pytest.approx(4 / 3)


def test_bound_by_decode() -> None:
    """Four times the output is a quarter of the decode: 1.25 from the engine that does not prefill, 2.5 from both.

    Both decode when everything is prefilled remotely: 4 engines at 0.325 s a request do 12.3.
    """
    found = plan(cases.hardware(remote_engines=4), cases.workload(output_tokens=400), SLO)
    assert found.binding == "local decode"
    assert found.requests_s == pytest.approx(2.5)
    assert (found.threshold_tokens, found.prefill_engines, found.decode_engines) == (0, 0, 2)
    assert evaluate(cases.hardware(), cases.workload(400), SLO, 5000, 1).requests_s == pytest.approx(1.25)


def test_all_remote_needs_no_local_prefill() -> None:
    """p = 1: one remote engine at 0.325 s, both local engines decode."""
    found = all_remote(cases.hardware(), cases.workload(), SLO)
    assert found.requests_s == pytest.approx(1 / 0.325)
    assert (found.remote_share, found.prefill_engines, found.decode_engines) == (1.0, 0, 2)
    assert found.first_token_mean_s == pytest.approx(0.325)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"egress_bytes_s": 0.0}, "the remote site has no link"),
        ({"remote_engines": 0}, "there is no remote engine"),
        ({"egress_bytes_s": 125_000.0}, "a remote prefill would serve no more requests"),
    ],
)
def test_without_a_use_for_remote_engines_all_is_local(changes: dict[str, float], reason: str) -> None:
    """p = 0: the mean of 3,250 tokens takes 0.65 s, and the plan says why nothing leaves."""
    found = plan(replace(cases.hardware(), **changes), cases.workload(), SLO)  # type: ignore[arg-type]
    assert found.threshold_tokens is None
    assert found.requests_s == pytest.approx(1 / 0.65)
    assert (found.remote_share, found.egress_bytes_s) == (0.0, 0.0)
    assert found.reasons == (f"all local: {reason}",)
    assert found.binding == "local prefill"


def test_first_token_is_the_prefill_where_the_threshold_sends_it() -> None:
    """0.2 s for three in four, 1 s for the fourth; nine in ten wait up to the longer."""
    found = evaluate(cases.hardware(), cases.workload(), SLO, 5000, 1)
    assert found.first_token_mean_s == pytest.approx(0.4)
    assert found.first_token_p90_s == pytest.approx(1.0)
    assert evaluate(cases.hardware(), cases.workload(), SLO, None, 1).first_token_p90_s == pytest.approx(2.0)


def test_an_objective_for_the_first_token_rules_thresholds_out() -> None:
    """A narrow link makes all local the better plan, whose long requests wait 2 s; an objective of 1.5 s sends them."""
    narrow = cases.hardware(egress_bytes_s=2e6)
    assert plan(narrow, cases.workload(), SLO).threshold_tokens is None
    found = plan(narrow, cases.workload(), replace(SLO, first_token_p90_s=1.5))
    assert found.threshold_tokens is not None
    assert found.first_token_p90_s == pytest.approx(1.0)
    assert found.requests_s == pytest.approx(0.8)
    assert found.reasons == ()


def test_an_objective_out_of_reach_is_said_to_be() -> None:
    """Half a second is less than any prefill of 10,000 tokens: the best plan without it, and the reason."""
    found = plan(cases.hardware(), cases.workload(), replace(SLO, first_token_p90_s=0.5))
    assert found.requests_s == pytest.approx(4.0)
    assert "0.5 s for the first token is missed: nine in ten prefills take up to 1 s" in found.reasons[0]


def test_an_impossible_pace_is_refused() -> None:
    """No batch gives a token in a millisecond."""
    with pytest.raises(ConfigError, match=r"fastest step takes 0\.02 s"):
        plan(cases.hardware(), cases.workload(), Slo(0.001))


def test_the_mean_prefill_is_longer_than_that_of_the_mean_length() -> None:
    """With a quadratic part: 1,000 and 10,000 tokens in 0.1 and 10 s are 5.05 s in the mean, 5,500 tokens 3.025 s."""
    square = replace(cases.LOCAL, prefill=Quadratic(0.0, 0.0, 1e-7))
    lengths = Workload(EmpiricalLengths.of([1000, 10_000]), 100)
    alone = Hardware(square, 2)
    assert plan(alone, lengths, SLO).requests_s == pytest.approx(1 / 3.025)
    assert plan(alone, lengths, SLO, averaging="each_length").requests_s == pytest.approx(1 / 5.05)


def test_what_to_buy_next() -> None:
    """Two remote engines prefill everything, 2 / 0.325 s, while both local ones decode; more bandwidth brings nothing.

    Where the link binds at 2, ten more Gbit/s make the remote engine bind at 4.
    """
    options = {each.what: each.gain_requests_s for each in purchases(cases.hardware(), cases.workload(), SLO)}
    assert options["1 more remote engine"] == pytest.approx(2 / 0.325 - 4)
    assert options["10 Gbit/s more egress"] == 0.0
    narrow = purchases(cases.hardware(egress_bytes_s=5e6), cases.workload(), SLO)
    assert narrow[0].what == "10 Gbit/s more egress"
    assert narrow[0].gain_requests_s == pytest.approx(2.0)


def test_only_the_threshold_is_chosen_for_given_prefill_engines() -> None:
    """Two of three prefill: 4 from the remote engine."""
    found = plan(cases.hardware(local_engines=3), cases.workload(), SLO, prefill_engines=2)
    assert (found.prefill_engines, found.decode_engines) == (2, 1)
    with pytest.raises(ConfigError, match="prefill_engines: 4: there are 3"):
        plan(cases.hardware(local_engines=3), cases.workload(), SLO, prefill_engines=4)


def test_one_local_engine_needs_a_remote_one() -> None:
    """Alone it cannot both prefill and decode in this model; with a remote site it decodes."""
    with pytest.raises(ConfigError, match="1 local engines, 0 of which prefill, serve nothing"):
        plan(Hardware(cases.LOCAL, 1), cases.workload(), SLO)
    assert plan(cases.hardware(local_engines=1), cases.workload(), SLO).threshold_tokens == 0


def test_a_division_without_prefill_serves_nothing() -> None:
    """Evaluated as asked: zero, not an error, and no figure that is not a number."""
    found = evaluate(cases.hardware(), cases.workload(), SLO, None, 0)
    assert found.requests_s == 0.0
    assert found.binding == "local prefill"


def test_prompts_beyond_the_profile_are_refused() -> None:
    """Nobody measured what 10,000 tokens take."""
    short = replace(cases.LOCAL, prefill=PiecewiseLinear((1000, 2000), (0.2, 0.4)))
    with pytest.raises(ConfigError, match="the profile ends at 2000"):
        plan(Hardware(short, 2), cases.workload(), SLO)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"egress_bytes_s": 100.0}, r"are these Gbit/s\? 1 Gbit/s is 1.25e8"),
        ({"egress_bytes_s": -1.0}, "egress_bytes_s: -1"),
        ({"egress_bytes_s": float("nan")}, "egress_bytes_s: nan"),
        ({"local_engines": 0}, "local_engines: 0"),
        ({"remote_engines": -1}, "remote_engines: -1"),
        ({"remote": None}, "remote_engines: 1: without a profile"),
        ({"local": replace(cases.LOCAL, decode=None)}, "says nothing of decode"),
    ],
)
def test_wrong_hardware_is_refused(changes: dict[str, object], message: str) -> None:
    """Counts, units and missing profiles."""
    with pytest.raises(ConfigError, match=message):
        replace(cases.hardware(), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("token_s", [0.0, -1.0, float("nan")])
def test_wrong_objectives_and_outputs_are_refused(token_s: float) -> None:
    """None of them may reach a division."""
    with pytest.raises(ConfigError, match="token_s"):
        Slo(token_s)
    with pytest.raises(ConfigError, match="first_token_p90_s"):
        Slo(0.02, token_s)
    with pytest.raises(ConfigError, match="output_tokens"):
        cases.workload(output_tokens=token_s)


@pytest.mark.parametrize(("longest", "step"), [(1, 1), (900, 1), (2500, 2), (10_000, 10), (131_072, 100), (1e6, 1000)])
def test_steps_are_round_numbers(longest: float, step: int) -> None:
    """1,000 steps up to the longest prompt, or up to 2,500."""
    assert threshold_step_tokens(longest) == step
