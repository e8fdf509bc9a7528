"""benchmarks.selective without engines: its statistics, the same rates for all ways, and lost runs."""

import asyncio
import math
from collections.abc import Sequence

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from benchmarks.selective_load import Answered, Mix, offer
from benchmarks.selective_predict import Predictor, Program, program
from benchmarks.selective_result import ALL_LOCAL, ALL_REMOTE, SELECTIVE, WAYS, Findings, Interval, Run
from benchmarks.selective_runs import FleetLost, Offer, Runs
from prfaas.planner.decode import DecodeProfile
from prfaas.planner.profile import EngineProfile, cache_curve, prefill_curve
from prfaas.planner.simulator.request import Arrival
from prfaas.planner.simulator.spec import LinkSpec, Promise

LENGTHS = (64, 4096)
PREFILL, CACHE = prefill_curve(LENGTHS, (0.05, 1.0)), cache_curve(LENGTHS, (1e6, 6e6))
PREDICTOR = Predictor(
    EngineProfile("local", PREFILL, CACHE, DecodeProfile((1, 16), (0.01, 0.03))),
    EngineProfile("remote", PREFILL, CACHE),
    Promise(3.0, 0.2),
    512,
    Mix(short=(64, 256), long=(1024, 4096), long_share=0.3, output_tokens=4),
    LinkSpec("cloud", 125e6, 0.03),
)
PROGRAM = Program({ALL_LOCAL: 1 << 20, ALL_REMOTE: 0, SELECTIVE: 1000}, {}, (2.0, 4.0))


def test_interval_is_students() -> None:
    """1 to 5: mean 3, deviation sqrt(2.5), t of 4 degrees of freedom 2.776."""
    found = Interval.of([1, 2, 3, 4, 5])
    assert found.mean == 3
    assert found.half == pytest.approx(2.776 * math.sqrt(2.5 / 5))
    assert Interval.of([1, 3]).half == pytest.approx(12.706)
    assert Interval.of([1]).half is None


def test_errors_have_signs_and_the_largest_counts_whichever_way_it_goes() -> None:
    """Predicted 0.5 of 1 measured is -50 %, 1.2 of 1 is +20 %."""
    findings = Findings([Run(ALL_LOCAL, 2, 1, 1.0, 0.5), Run(SELECTIVE, 2, 1, 1.0, 1.2)])
    assert [cell.error for cell in findings.cells()] == pytest.approx([-0.5, 0.2])
    assert findings.keys()["max_prediction_error"] == 0.5


def test_an_error_without_bound_is_no_number() -> None:
    """Nothing measured was good, something was predicted."""
    keys = Findings([Run(ALL_REMOTE, 2, 1, 0.0, 0.5), Run(SELECTIVE, 2, 1, 1.0, 1.0)]).keys()
    assert keys["max_prediction_error"] is keys["max_cell_error"] is None


def test_a_ways_goodput_is_predicted_over_the_same_rates_and_each_cell_by_itself() -> None:
    """Measured 2 and 1, predicted 1.8 and 3: the best are 2 and 3, the cells are off by -10 % and 200 %."""
    keys = Findings([Run(ALL_LOCAL, 2, 1, 2.0, 1.8), Run(ALL_LOCAL, 4, 1, 1.0, 3.0)]).keys()
    assert (keys["goodput_all_local"], keys["predicted_all_local"]) == (2, 3)
    assert (keys["max_prediction_error"], keys["max_cell_error"]) == (0.5, 2)


def test_goodput_is_the_best_of_all_rates() -> None:
    """It rises and falls; the rate of the best is told, and where selective leads."""
    runs = [Run(ALL_LOCAL, rate, seed, good, good) for rate, good in ((2, 1.5), (4, 0.5)) for seed in (1, 2)]
    keys = Findings([*runs, Run(SELECTIVE, 4, 1, 3.0, 3.0)]).keys()
    assert (keys["goodput_all_local"], keys["best_rate_all_local"]) == (1.5, 2)
    assert keys["selective_more_than"] == [{"way": ALL_LOCAL, "rate": 4, "good_per_s": 2.5, "confidence": None}]


def test_all_ways_get_the_same_rates() -> None:
    """Shares of the highest capacity of the three, beyond it too."""
    plan = program(PREDICTOR, (0.6, 1.25))
    assert set(plan.thresholds) == set(WAYS)
    highest = max(plan.capacities.values())
    assert plan.rates == (round(0.6 * highest, 3), round(1.25 * highest, 3))
    assert plan.capacities[SELECTIVE] >= plan.capacities[ALL_LOCAL] > 0


def test_every_way_gets_the_same_requests_and_each_run_counts() -> None:
    """Two seeds, two rates, three ways; an answer of zero seconds is good."""
    offers: list[tuple[Arrival, ...]] = []

    async def load(arrivals: Sequence[Arrival]) -> Sequence[Answered]:
        offers.append(tuple(arrivals))
        return [Answered(0.0, 0.0, False)] * len(arrivals)

    findings = _measured(load)
    assert len(findings.runs) == 12
    measured = offers[3:]  # the first ones warm up
    assert all(len(set(measured[at : at + 3])) == 1 for at in range(0, 12, 3))
    assert findings.runs[0].measured == len(measured[0]) / 4


def test_a_run_with_lost_requests_is_made_once_more_and_told() -> None:
    """The fourth load, the first that counts, loses all."""
    calls = 0

    async def load(arrivals: Sequence[Arrival]) -> Sequence[Answered]:
        nonlocal calls
        calls += 1
        return [Answered(0.0, 0.0, False, is_lost=calls == 4)] * len(arrivals)

    findings = _measured(load)
    assert [run.is_retried for run in findings.runs] == [True] + [False] * 11
    assert findings.keys()["retried_runs"] == 1


def test_a_run_without_any_answer_is_lost_though_all_are_only_late() -> None:
    """An engine that hangs refuses nothing."""

    async def load(arrivals: Sequence[Arrival]) -> Sequence[Answered]:
        return [Answered(math.inf, math.inf, False)] * len(arrivals)

    with pytest.raises(FleetLost):
        _measured(load)


def test_a_fleet_that_is_gone_ends_it_and_keeps_what_was_measured() -> None:
    """From the sixth load on nobody answers."""
    findings, calls = Findings(), 0

    async def load(arrivals: Sequence[Arrival]) -> Sequence[Answered]:
        nonlocal calls
        calls += 1
        return [Answered(0.0, 0.0, False, is_lost=calls > 5)] * len(arrivals)

    with pytest.raises(FleetLost, match="twice"):
        _measured(load, findings)
    assert len(findings.runs) == 2


async def test_answers_of_a_stub_are_read_and_those_too_late_are_no_loss() -> None:
    """One answer comes, one engine is not there, one request is refused, one answer never ends."""

    async def answer(request: web.Request) -> web.StreamResponse:
        tokens = len((await request.json())["prompt"])
        if tokens < 3:
            code = "engine_unavailable" if tokens == 2 else "queue_full"
            return web.json_response({"error": {"code": code}}, status=503)
        response = web.StreamResponse(headers={"x-prfaas-placement": "remote"})
        await response.prepare(request)
        await response.write(b'data: {"choices": []}\n\n')
        if tokens == 4:
            await asyncio.sleep(60)
        await response.write(b"data: [DONE]\n\n")
        return response

    app = web.Application()
    app.router.add_post("/v1/completions", answer)
    async with TestServer(app) as server, aiohttp.ClientSession() as http:
        arrivals = [Arrival(0.0, tokens, 2) for tokens in (1, 2, 3, 4)]
        found = await offer(http, str(server.make_url("")).rstrip("/"), "m", arrivals, "run", Promise(0.5, 0.1))
    assert [each.is_lost for each in found] == [False, True, False, False]
    assert [each.first_s < math.inf for each in found] == [False, False, True, False]
    assert found[2].is_remote


def _measured(offer: Offer, findings: Findings | None = None) -> Findings:
    findings = Findings() if findings is None else findings

    async def switch(_: int) -> None:
        pass

    asyncio.run(Runs(PROGRAM, PREDICTOR, 2, 4.0, findings, switch, offer, drain_s=0.0).measure())
    return findings
