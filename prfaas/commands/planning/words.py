"""How a plan's figures are said to people, the same in the terminal, the report and under its pictures."""

from dataclasses import dataclass

from prfaas.commands.planning.scenario import GBIT_BYTES, Scenario
from prfaas.planner.plan import Plan, Purchase, Stage
from prfaas.planner.study import WORTH_SHARE, Study

ROOM_SHARE = 0.05
"""Less spare than this is none: the mean hides bursts."""
BINDING_UTILISATION = 0.995
"""A step of the search leaves less than the rest between stages that bind together; see decision 087."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table: what, and a figure for each column."""

    what: str
    figures: tuple[str, ...]


def threshold(plan: Plan) -> str:
    """Of a plan, in tokens, and in words where it is no number."""
    if plan.threshold_tokens is None:
        return "none remote"
    return f"{plan.threshold_tokens:,}" if plan.threshold_tokens else "0, all remote"


def verdict(study: Study) -> str:
    """The plan in a sentence."""
    plan = study.plan
    division = f"of {_engines(plan.prefill_engines + plan.decode_engines, 'local')} {plan.prefill_engines} prefill and "
    division += f"{plan.decode_engines} decode"
    if plan.threshold_tokens is None:
        where = "Keep every prefill local"
    elif plan.threshold_tokens == 0:
        where = "Prefill every prompt remotely"
    else:
        where = f"Prefill prompts with more than {plan.threshold_tokens:,} uncached tokens remotely"
    return f"{where}; {division}: {plan.requests_s:.3g} requests/s at most, where {binding(plan)}."


def is_binding(stage: Stage) -> bool:
    """As busy as can be."""
    return stage.share > 0 and stage.utilisation >= BINDING_UTILISATION


def binding(plan: Plan) -> str:
    """What binds, in words; often several stages do together, which is what the best threshold makes them do."""
    names = _binding(plan)
    return f"{names} {'bind' if ' and ' in names else 'binds'}"


def bandwidth(scenario: Scenario, study: Study) -> str:
    """The link: what there is, what the plan needs of it, and how much would be enough."""
    there = scenario.question.hardware.egress_bytes_s / GBIT_BYTES
    needed, enough = study.plan.egress_bytes_s / GBIT_BYTES, study.enough_egress_bytes_s / GBIT_BYTES
    if not scenario.question.hardware.remote_engines:
        return "No remote engine, so nothing crosses a link."
    if not there and not enough:
        return "There is no link, and one would serve no more requests."
    if not there:
        return f"There is no link. With one, {_gbps(enough)} would be enough; more would serve no more requests."
    said = f"{_gbps(needed)} of {_gbps(there)} on average ({needed / there:.0%})"
    if enough > there * (1 + 1e-9):
        return f"{said}; the link holds the fleet back: more of it serves more requests, until {_gbps(enough)}."
    return f"{said}; {_gbps(enough)} would be enough, before bursts."


def link_tile(scenario: Scenario, study: Study) -> tuple[str, str]:
    """The link in a figure and a remark."""
    there = scenario.question.hardware.egress_bytes_s / GBIT_BYTES
    if not there:
        return "none", "nothing crosses"
    return _gbps(study.plan.egress_bytes_s / GBIT_BYTES), f"of {_gbps(there)}"


def purchase(study: Study) -> str:
    """What to buy next."""
    found = study.next_purchase
    if found is None:
        return "No single thing serves more requests: several stages bind."
    gain = found.gain_requests_s / study.plan.requests_s
    return f"{found.what}: {found.gain_requests_s:+.3g} requests/s ({gain:+.0%}); then {binding(found.plan)}."


def load(scenario: Scenario, study: Study) -> str | None:
    """The trace's own rate against the plan's; None where there is no rate."""
    trace = scenario.trace
    if trace is None or not trace.requests_s:
        return None
    share = trace.requests_s / study.plan.requests_s
    rate = f"The trace's {trace.requests:,} requests came at {trace.requests_s:.3g} a second on average, "
    rate += f"{share:.0%} of what this fleet serves at most"
    if share > 1:
        return f"{rate}: it is too small, and queues grow without end."
    if share > 1 - ROOM_SHARE:
        return f"{rate}: there is no room for bursts."
    return f"{rate}; bursts and queues come out of the rest."


def workload(scenario: Scenario) -> str:
    """Lengths in a sentence."""
    asked, trace = scenario.question.workload, scenario.trace
    lengths = asked.lengths
    said = f"{lengths.mean_tokens:,.0f} uncached tokens a prompt on average, {lengths.max_tokens:,.0f} at most; "
    said += f"{asked.output_tokens:,.4g} tokens an answer"
    if trace is not None:
        said += f"; prefix hits save {trace.hit_share:.0%} of {trace.inputs.mean_tokens:,.0f} tokens a prompt"
    return f"{said}."


def fleets(study: Study) -> tuple[tuple[str, Plan], ...]:
    """The plan and what it is compared with, by name."""
    named = (("plan", study.plan), ("all local", study.all_local), ("all remote", study.all_remote))
    return tuple((name, plan) for name, plan in named if plan is not None)


def comparison(study: Study) -> tuple[tuple[str, ...], tuple[Row, ...]]:
    """Plan and baselines beside each other: names of the columns, and rows."""
    columns = fleets(study)
    plans = [plan for _, plan in columns]
    rows = (
        Row("threshold t, tokens", tuple(threshold(each) for each in plans)),
        Row("remote/prefill/decode", tuple(_division(each) for each in plans)),
        Row("most requests/s", tuple(f"{each.requests_s:.3g}" for each in plans)),
        Row("of the plan's", tuple(f"{each.requests_s / study.plan.requests_s:.0%}" for each in plans)),
        Row("prefill, mean", tuple(f"{each.first_token_mean_s:.3g} s" for each in plans)),
        Row("prefill, P90", tuple(f"{each.first_token_p90_s:.3g} s" for each in plans)),
        Row("across the link", tuple(_gbps(each.egress_bytes_s / GBIT_BYTES) for each in plans)),
        Row("binds", tuple(_binding(each) for each in plans)),
    )
    return tuple(name for name, _ in columns), rows


def options(study: Study) -> tuple[Row, ...]:
    """What could be bought: gain, the requests/s then, the plan then, and what binds then."""
    return tuple(_option(each, study.plan.requests_s) for each in study.purchases)


def _option(each: Purchase, now_requests_s: float) -> Row:
    is_worth = each.gain_requests_s > WORTH_SHARE * now_requests_s
    gain = f"{each.gain_requests_s:+.3g} ({each.gain_requests_s / now_requests_s:+.0%})" if is_worth else "none"
    then = each.plan
    return Row(each.what, (gain, f"{then.requests_s:.3g}", threshold(then), _division(then), _binding(then)))


def _division(plan: Plan) -> str:
    return f"{plan.remote_engines}/{plan.prefill_engines}/{plan.decode_engines}"


def _binding(plan: Plan) -> str:
    *others, last = [each.name for each in plan.stages if is_binding(each)] or [plan.binding]
    return f"{', '.join(others)} and {last}" if others else last


def _engines(count: int, where: str) -> str:
    return f"{count} {where} engine{'' if count == 1 else 's'}"


def _gbps(value: float) -> str:
    return f"{value:.3g} Gbit/s"
