"""The plan as a JSON document, for other programs: the planner's own figures, none of them rounded."""

from dataclasses import asdict
from typing import Any

import numpy as np

from prfaas import __version__
from prfaas.commands.planning.scenario import GBIT_BYTES, Scenario
from prfaas.planner.plan import Plan, Purchase
from prfaas.planner.study import Study


def document(scenario: Scenario, study: Study) -> dict[str, Any]:
    """Everything that the report shows apart from its pictures; units are in the names."""
    hardware = scenario.question.hardware
    return {
        "title": scenario.file.title,
        "prfaas_version": __version__,
        "input": scenario.file.model_dump(exclude_none=True),
        "workload": _workload(scenario),
        "plan": _plan(study.plan),
        "bandwidth": {
            "there_gbps": hardware.egress_bytes_s / GBIT_BYTES,
            "needed_gbps": study.plan.egress_bytes_s / GBIT_BYTES,
            "enough_gbps": study.enough_egress_bytes_s / GBIT_BYTES,
        },
        "baselines": {
            "all_local": _plan(study.all_local) if study.all_local else None,
            "all_remote": _plan(study.all_remote) if study.all_remote else None,
        },
        "next_purchase": study.next_purchase.what if study.next_purchase else None,
        "purchases": [_purchase(each) for each in study.purchases],
    }


def _plan(plan: Plan) -> dict[str, Any]:
    return {**asdict(plan), "binding": plan.binding, "remote_share": plan.remote_share}


def _purchase(purchase: Purchase) -> dict[str, Any]:
    return {
        "what": purchase.what,
        "gain_requests_s": purchase.gain_requests_s,
        "plan": _plan(purchase.plan),
    }


def _workload(scenario: Scenario) -> dict[str, Any]:
    workload, trace = scenario.question.workload, scenario.trace
    median, p90 = workload.lengths.quantiles(np.array([0.5, 0.9]))
    figures: dict[str, Any] = {
        "uncached_mean_tokens": workload.lengths.mean_tokens,
        "uncached_p50_tokens": float(median),
        "uncached_p90_tokens": float(p90),
        "uncached_max_tokens": workload.lengths.max_tokens,
        "output_mean_tokens": workload.output_tokens,
    }
    if trace is not None:
        figures["trace"] = {
            "requests": trace.requests,
            "span_s": trace.span_s,
            "requests_s": trace.requests_s,
            "prompt_mean_tokens": trace.inputs.mean_tokens,
            "hit_share": trace.hit_share,
        }
    return figures
