"""Where the time of requests goes, as metrics."""

import pytest

from prfaas.observe.decisions import ANSWERED, Decision, Try
from prfaas.observe.metrics import Metrics
from prfaas.types import TransferReport


def remote() -> Decision:
    """A streamed request of 900 tokens, 100 of them cached: dialed at 0.4 s, prefilled by 1.4 s, its cache there by
    1.5 s and in the blocks by 1.6 s, first output at 1.7 s, ended at 3 s."""
    decision = Decision("r", "chat", "remote", "edge-0", "cloud-0", ("long",), 900, "t")
    report = TransferReport("t", ok=True, tokens=900, prefilled_s=1.0, first_s=0.2, last_s=1.1, used_s=1.2)
    decision.note(
        placed_after_s=0.3,
        uncached_tokens=800,
        status=200,
        outcome="remote",
        first_output_s=1.7,
        total_s=3.0,
        report=report,
        waited_s=0.1,
        tries=(Try("edge-0", "cloud-0", "decode", ANSWERED, 1.35, 0.35),),
        is_stream=True,
        read_after_s=0.05,
        tokenised_after_s=0.15,
        reported_after_s=1.6,
    )
    return decision


@pytest.mark.parametrize(
    ("stage", "seconds"),
    [
        ("read", 0.05),
        ("tokenise", 0.1),
        ("queue", 0.1),
        ("prefill", 1.05),
        ("transfer", 0.9),
        ("inject", 0.1),
        ("first_token", 0.1),
        ("answer", 1.3),
    ],
)
def test_each_stage_has_its_seconds(stage: str, seconds: float) -> None:
    """Worked by hand from the moments above; all of the placement "remote"."""
    metrics = Metrics()
    metrics.count_ended(remote(), is_stream=True)
    value, labels = metrics.registry.get_sample_value, {"stage": stage, "placement": "remote"}
    assert value("prfaas_stage_seconds_sum", labels) == pytest.approx(seconds)
    assert value("prfaas_stage_seconds_count", labels) == 1


def test_tokens_and_whole_time_count() -> None:
    """900 tokens of which 800 were to be computed, in three seconds."""
    metrics = Metrics()
    metrics.count_ended(remote(), is_stream=True)
    value, labels = metrics.registry.get_sample_value, {"placement": "remote"}
    assert value("prfaas_prompt_tokens_total", labels) == 900
    assert value("prfaas_uncached_prompt_tokens_sum", labels) == 800
    assert value("prfaas_request_seconds_sum", labels) == 3.0


def test_unknown_tokens_do_not_count() -> None:
    """A prompt that only the engine knows is in neither count, so their ratio stays right."""
    metrics, decision = Metrics(), remote()
    decision.note(uncached_tokens=None)
    metrics.count_ended(decision, is_stream=True)
    assert metrics.registry.get_sample_value("prfaas_prompt_tokens_total", {"placement": "remote"}) is None


def test_recomputes_count_by_cause() -> None:
    """The alarm has no label, so that it is there before the first; the causes add up to it."""
    metrics, decision = Metrics(), remote()
    decision.note(outcome="recomputed", report=None)
    for cause in ("stalled", "stalled", "declined"):
        metrics.count_ended(decision, is_stream=True, cause=cause)
    value = metrics.registry.get_sample_value
    assert value("prfaas_unplanned_recompute_total") == 3
    assert value("prfaas_recompute_causes_total", {"reason": "stalled"}) == 2
    assert value("prfaas_recompute_causes_total", {"reason": "declined"}) == 1
