"""The simulator against what is known without it: queueing theory, and the throughput model."""

import math

import pytest

from prfaas.planner.hardware import Hardware
from prfaas.planner.lengths import EmpiricalLengths, Lengths
from prfaas.planner.log_normal import LogNormalLengths
from prfaas.planner.plan import Plan
from prfaas.planner.profile import EngineProfile
from prfaas.planner.search import evaluate
from prfaas.planner.simulator.arrivals import Synthetic
from prfaas.planner.simulator.outcome import Outcome
from prfaas.planner.simulator.policies import Setting
from prfaas.planner.simulator.run import simulate
from prfaas.planner.simulator.spec import EngineSpec, FleetSpec, LinkSpec
from prfaas.planner.workload import Slo, Workload
from tests.planner.simulator.fleets import HAND_OVER_S, STEP_S, engine, fleet, profile, scenario
from tests.planner.simulator.stepwise import means_s

LOCAL = Setting("local", None)


def waits_s(lengths: Lengths, requests_s: float) -> list[float]:
    """Mean seconds in the queue of one prefill engine with 1,000 tokens a second, for several seeds."""
    found = []
    for seed in range(6):
        arrivals = Synthetic(requests_s, 3000 / requests_s, lengths, 2, seed=seed)
        outcome = simulate(scenario(fleet(1, 1), arrivals=arrivals), LOCAL)
        found.append(outcome.first_token_mean_s - HAND_OVER_S - STEP_S - lengths.mean_tokens / 1000)
    return found


def assert_mean(samples: list[float], expected: float) -> None:
    """Within three standard errors, and these are small enough to tell something."""
    mean = sum(samples) / len(samples)
    error = math.sqrt(sum((each - mean) ** 2 for each in samples) / (len(samples) - 1) / len(samples))
    assert error < 0.1 * expected
    assert mean == pytest.approx(expected, abs=3 * error)


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_equal_prompts_wait_as_an_m_d_1_queue(load: float) -> None:
    """Pollaczek and Khinchine: half of load / (1 - load) prefills of a second."""
    assert_mean(waits_s(EmpiricalLengths((1000,), (1,)), load), load / (2 * (1 - load)))


def test_exponential_prompts_wait_as_an_m_m_1_queue() -> None:
    """Lengths at the quantiles of an exponential distribution wait load / (1 - load), with their own second moment."""
    tokens = sorted({max(1, round(-1000 * math.log(1 - (at + 0.5) / 4000))) for at in range(4000)})
    lengths = EmpiricalLengths(tuple(tokens), (1,) * len(tokens))
    mean_s = lengths.mean_tokens / 1000
    square_s2 = float((lengths.atoms.tokens / 1000) ** 2 @ lengths.atoms.weights)
    load = 0.6
    assert_mean(waits_s(lengths, load / mean_s), load / mean_s * square_s2 / (2 * (1 - load)))


def test_a_decode_batch_holds_what_little_says() -> None:
    """Answers in the batch on average = arrivals a second x seconds of an answer."""
    arrivals = Synthetic(2.0, 4000, EmpiricalLengths((1,), (1,)), 500, seed=1)
    outcome = simulate(scenario(fleet(1, 1), arrivals=arrivals), LOCAL)
    used = next(each for each in outcome.uses if each.what == "d0")
    assert used.batch == pytest.approx(outcome.offered_requests_s * (500.5 * STEP_S), rel=0.02)


PAPER_LENGTHS = LogNormalLengths(9.9, 1.0, 128, 131_072)
TRAVELLER = profile(4e-5, fixed_s=0.3)


@pytest.mark.parametrize(
    ("binding", "remote", "prefill", "decode", "egress_bytes_s", "output_tokens"),
    [
        ("link", 4, 3, 2, 3e7, 200),
        ("remote prefill", 2, 6, 2, 1e12, 200),
        ("local prefill", 4, 2, 2, 1e12, 200),
        ("local decode", 4, 6, 1, 1e12, 2000),
    ],
)
def test_a_saturated_fleet_serves_lambda_max(
    binding: str, remote: int, prefill: int, decode: int, egress_bytes_s: float, output_tokens: int
) -> None:
    """Offered a little less than the model's Lambda_max the fleet keeps up; offered more, it serves just that."""
    local = EngineProfile("local", profile(1e-4, fixed_s=0.4).prefill, TRAVELLER.cache, TRAVELLER.decode)
    hardware = Hardware(local, prefill + decode, TRAVELLER, remote, egress_bytes_s)
    slo, workload = Slo(STEP_S), Workload(PAPER_LENGTHS, output_tokens)
    plan = evaluate(hardware, workload, slo, 20_000, prefill, averaging="each_length")
    assert plan.binding == binding
    kept = saturated(plan, 0.95, hardware, output_tokens)
    assert kept.answered / kept.duration_s == pytest.approx(0.95 * plan.requests_s, rel=0.03)
    over = saturated(plan, 1.3, hardware, output_tokens)
    assert over.answered / over.duration_s == pytest.approx(plan.requests_s, rel=0.04)


def saturated(plan: Plan, load: float, hardware: Hardware, output_tokens: int) -> Outcome:
    """The planned fleet at a share of Lambda_max. Nothing is given up: the model knows no fallback."""
    assert hardware.remote is not None
    count = 3000
    engines = [
        EngineSpec(f"e{at}", "edge", hardware.local, "decode", capacity=None) for at in range(hardware.local_engines)
    ]
    engines += [engine(f"r{at}", "prefill", "cloud", profile=hardware.remote) for at in range(plan.remote_engines)]
    spec = FleetSpec("edge", tuple(engines), (LinkSpec("cloud", hardware.egress_bytes_s),))
    rate = load * plan.requests_s
    arrivals = Synthetic(rate, count / rate, PAPER_LENGTHS, output_tokens, seed=4)
    setting = Setting("planned", plan.threshold_tokens, plan.prefill_engines)
    return simulate(scenario(spec, arrivals=arrivals, remote_timeout_s=1e9, max_waiting=count), setting)


@pytest.mark.parametrize("requests_s", [0.4, 1.0, 1.3])
def test_an_engine_for_both_does_what_single_steps_would(requests_s: float) -> None:
    """Against every step of a scheduler that prefills in chunks beside its answers: at light load, at two thirds and
    near saturation the mean pace is within 6 %, the mean first token within 10 %."""
    lengths = EmpiricalLengths((150, 400, 900), (2, 2, 1))
    arrivals = Synthetic(requests_s, 3000 / requests_s, lengths, 60, seed=2, output_cv=0.5)
    spec = FleetSpec("edge", (engine("e", "both", chunk_tokens=256, batch=16),))
    outcome = simulate(scenario(spec, arrivals=arrivals), LOCAL)
    first_s, pace_s = means_s(list(arrivals()), 1e-3, STEP_S, 256, 16)
    assert outcome.token_mean_s == pytest.approx(pace_s, rel=0.06)
    assert outcome.first_token_mean_s == pytest.approx(first_s, rel=0.10)
