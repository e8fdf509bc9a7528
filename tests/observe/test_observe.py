import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from prfaas.observe.decisions import Decision, DecisionRing
from prfaas.observe.engines import EngineFigures
from prfaas.observe.metrics import Metrics
from prfaas.types import LINK_METRICS, LinkStatistics, TransferReport

FIGURES = EngineFigures(
    site="edge",
    roles=("decode",),
    is_healthy=False,
    is_draining=False,
    is_breaker_open=False,
    knowledge="exact",
    inflight=3,
    waiting_tokens=700,
    prefill_tokens_s=None,
)


def decision(request_id: str = "r", **changes: object) -> Decision:
    plain = Decision(request_id, "chat", "remote", "edge-0", "cloud-0", ("long",), 900, "t")
    plain.note(**changes)
    return plain


def test_what_came_since_a_cursor_is_the_latest_first() -> None:
    """After a cursor of this ring what was put since; after another's, a broken one or none all that is kept."""
    ring = DecisionRing()
    ring.put(decision("a"))
    cursor = ring.cursor
    for name in ("b", "c"):
        ring.put(decision(name))
    assert [each.request_id for each in ring.after(cursor)] == ["c", "b"]
    epoch = cursor.partition("-")[0]
    for strange in ("", "other-1", f"{epoch}-x", f"{epoch}-", f"{epoch}-²"):
        assert [each.request_id for each in ring.after(strange)] == ["c", "b", "a"]
    assert ring.after(ring.cursor) == []


def test_one_decision_of_the_ring() -> None:
    """By its request's id; None of an unknown one."""
    ring = DecisionRing()
    kept = decision("a")
    ring.put(kept)
    assert ring.get("a") is kept
    assert ring.get("b") is None


def test_ring_keeps_the_latest() -> None:
    """The oldest decision makes room; a decision of the same request is replaced in its place."""
    ring = DecisionRing(capacity=2)
    for name in ("a", "b", "c"):
        ring.put(decision(name))
    ring.put(decision("b", outcome="remote"))
    assert [(kept["request_id"], kept["outcome"]) for kept in ring.latest_first()] == [
        ("c", "running"),
        ("b", "remote"),
    ]
    assert ring.latest().request_id == "c"


def test_requests_of_one_id_are_kept_each() -> None:
    """A client may give all its requests one id, or that of another's: none of them hides another."""
    ring = DecisionRing(capacity=3)
    for tenant, arrived_unix_s in (("a", 1.0), ("b", 2.0), ("b", 3.0)):
        ring.put(decision("x", tenant=tenant, arrived_unix_s=arrived_unix_s))
    ring.put(decision("x", tenant="a", arrived_unix_s=1.0, outcome="remote"))
    assert [(kept.tenant, kept.outcome) for kept in ring] == [("b", "running"), ("b", "running"), ("a", "remote")]
    assert (found := ring.get("x")) is not None
    assert found.arrived_unix_s == 3.0


@pytest.mark.parametrize(
    ("outcome", "ok", "used", "recomputed"),
    [("remote", True, 800, 0), ("recomputed", False, 0, 1), ("unknown", None, 0, 0), ("cancelled", None, 0, 0)],
)
def test_only_used_tokens_count(outcome: str, ok: bool | None, used: int, recomputed: int) -> None:
    """Remote tokens and bytes count when used; recomputes and unknown outcomes raise their alarms."""
    metrics = Metrics()
    report = None if ok is None else TransferReport("t", ok=ok, tokens=800, cache_bytes=5000, early_bytes=4000)
    metrics.count_ended(decision(outcome=outcome, status=200, report=report), is_stream=True)
    value = metrics.registry.get_sample_value
    assert value("prfaas_remote_tokens_total") == used
    assert value("prfaas_remote_cache_bytes_total") == (5000 if used else 0)
    assert value("prfaas_remote_early_bytes_total") == (4000 if used else 0)
    assert value("prfaas_unplanned_recompute_total") == recomputed
    assert value("prfaas_unknown_outcome_total") == (outcome == "unknown")
    assert value("prfaas_requests_total", {"placement": "remote", "outcome": outcome, "status": "200"}) == 1


def test_first_output_is_timed_for_streams_only() -> None:
    """The first output of a whole answer is its end, which says nothing about the first token."""
    metrics = Metrics()
    for is_stream in (True, False):
        metrics.count_ended(decision(outcome="remote", first_output_s=0.3), is_stream=is_stream)
    name = "prfaas_time_to_first_token_seconds_count"
    assert metrics.registry.get_sample_value(name, {"placement": "remote"}) == 1


@pytest.mark.parametrize(
    ("changes", "ratio"),
    [
        ({}, 1.5),
        ({"placed_after_s": 0.1}, 1.0),
        ({"placement": "local", "outcome": "local"}, 1.5),
        ({"outcome": "recomputed"}, None),
        ({"outcome": "error"}, None),
        ({"status": 400}, None),
        ({"predicted_first_token_s": None}, None),
        ({"first_output_s": None}, None),
    ],
)
def test_predictions_are_compared_with_what_happened(changes: dict[str, Any], ratio: float | None) -> None:
    """Of requests that went as they were placed, from the placement on; by the kind of placement."""
    metrics = Metrics()
    usual: dict[str, Any] = {"outcome": "remote", "status": 200, "first_output_s": 0.3, "predicted_first_token_s": 0.2}
    ended = decision(**{**usual, **changes})
    assert ended.prediction_ratio == (ratio and pytest.approx(ratio))
    for is_stream in (True, False):
        metrics.count_ended(ended, is_stream=is_stream)
    value, labels = metrics.registry.get_sample_value, {"placement": ended.placement}
    assert value("prfaas_first_token_prediction_ratio_count", labels) == (1 if ratio else None)
    assert value("prfaas_first_token_prediction_ratio_sum", labels) == (ratio and pytest.approx(ratio))


def test_caches_from_next_door_are_not_remote() -> None:
    """A cache from an engine of the same site counts for itself."""
    metrics = Metrics()
    report = TransferReport("t", ok=True, tokens=800, cache_bytes=5000)
    metrics.count_ended(decision(placement="local", outcome="local", report=report), is_stream=False)
    value = metrics.registry.get_sample_value
    assert value("prfaas_site_transfer_tokens_total") == 800
    assert value("prfaas_remote_tokens_total") == value("prfaas_remote_cache_bytes_total") == 0


def test_exposition_names_engine_health() -> None:
    """The text for Prometheus shows the health of each engine."""
    metrics = Metrics()
    metrics.engines.tell("edge-0", FIGURES)
    assert 'prfaas_engine_healthy{engine="edge-0"} 0.0' in metrics.exposition().decode()


FORGETTING = """
import os
from dataclasses import replace
from prfaas.observe.metrics import Metrics
from tests.observe.test_observe import FIGURES
metrics = Metrics(os.environ["PROMETHEUS_MULTIPROC_DIR"])
metrics.engines.tell("gone", replace(FIGURES, is_healthy=True, prefill_tokens_s=9.0))
metrics.forget("gone")
metrics.forget("gone")
print(metrics.exposition().decode())
"""


def test_of_an_engine_that_is_gone_workers_tell_nothing(tmp_path: Path) -> None:
    """Several workers' files keep every series: each of the engine's has a value that is none. Forgetting it twice adds
    none of a site that there is not."""
    env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": "."}
    done = subprocess.run([sys.executable, "-c", FORGETTING], env=env, capture_output=True, text=True, check=True)
    told = {line for line in done.stdout.splitlines() if 'engine="gone"' in line}
    assert len(told) >= 11
    assert not any('site=""' in line for line in told)
    assert {line for line in told if not line.endswith((" 0.0", " NaN"))} == set()


def test_links_show_as_they_were_last_told() -> None:
    """Every figure of a link is a metric with engine, direction and peer; an engine that falls silent shows none."""
    metrics = Metrics()
    metrics.links.note("edge-0", [LinkStatistics("cloud-0", False, delivered_bytes=7, goodput_bytes_s=2.5, rtt_s=0.03)])
    labels = {"engine": "edge-0", "direction": "receive", "peer": "cloud-0"}
    value = metrics.registry.get_sample_value
    assert value("prfaas_link_delivered_bytes_total", labels) == 7
    assert value("prfaas_link_goodput_bytes_per_second", labels) == 2.5
    assert value("prfaas_link_rtt_seconds", labels) == 0.03
    assert value("prfaas_link_congested", labels) == 0
    text = metrics.exposition().decode()
    assert all(f"# HELP {metric.name}" in text for metric in LINK_METRICS)
    metrics.links.note("edge-0", [])
    assert value("prfaas_link_delivered_bytes_total", labels) is None
