"""The mover's link figures on their way into vLLM's metrics."""

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from prfaas.clock import ManualClock
from prfaas.engine.stats import ASK_EVERY_S, LinkMetrics, LinkStats, StatisticsAsker
from prfaas.transport.messages import AskStatistics
from prfaas.types import LinkStatistics


class Asked:
    """An asker on a manual clock, and what it sent to the mover."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.sent: list[AskStatistics] = []
        self.asker = StatisticsAsker(self.sent.append, self.clock)


def test_the_mover_is_asked_once_a_second_and_never_twice_at_a_time() -> None:
    """Steps are quick; a mover that does not answer is not asked again."""
    asked = Asked()
    for _ in range(10):
        assert asked.asker.take() is None
    assert len(asked.sent) == 1
    asked.clock.advance(ASK_EVERY_S)
    asked.asker.take()
    assert len(asked.sent) == 1
    asked.asker.heard([])
    asked.asker.take()
    assert len(asked.sent) == 2


def test_counters_travel_as_what_is_new_and_gauges_as_they_are() -> None:
    """Two answers between two steps are summed; nothing is told twice."""
    asker = Asked().asker
    asker.heard([LinkStatistics("edge", True, delivered_bytes=100, rtt_s=0.03, is_congested=True)])
    asker.heard([LinkStatistics("edge", True, delivered_bytes=150, rtt_s=0.04)])
    news = asker.take()
    assert news is not None
    assert news.data["send/edge"]["delivered_bytes"] == 150
    assert news.data["send/edge"]["rtt_s"] == 0.04
    assert news.data["send/edge"]["is_congested"] == 0.0
    assert asker.take() is None
    asker.heard([LinkStatistics("edge", True, delivered_bytes=160, rtt_s=0.04)])
    news = asker.take()
    assert news is not None
    assert news.data["send/edge"]["delivered_bytes"] == 10


def test_a_forgotten_peer_begins_again_without_going_back() -> None:
    """Counters that the mover began anew add nothing until they grow."""
    asker = Asked().asker
    asker.heard([LinkStatistics("edge", True, delivered_bytes=100)])
    asker.heard([LinkStatistics("edge", True, delivered_bytes=20)])
    asker.heard([LinkStatistics("edge", True, delivered_bytes=30)])
    news = asker.take()
    assert news is not None
    assert news.data["send/edge"]["delivered_bytes"] == 110


def news_of(link: LinkStatistics) -> LinkStats:
    asker = Asked().asker
    asker.heard([link])
    news = asker.take()
    assert news is not None
    return news


def test_steps_add_up_for_the_log() -> None:
    """Steps between two log lines are one line; idle links are not in it."""
    total = LinkStats({})
    assert total.is_empty()
    for link in (
        LinkStatistics("edge/0", True, delivered_bytes=2_000_000, goodput_bytes_s=5e6, rtt_s=0.03),
        LinkStatistics("edge/0", True, delivered_bytes=1_000_000, goodput_bytes_s=6e6, rtt_s=0.03),
        LinkStatistics("idle", False),
    ):
        total.aggregate(news_of(link))
    assert total.reduce() == {"send/edge/0 MB": 3.0, "send/edge/0 MB/s": 6.0, "send/edge/0 RTT (ms)": 30.0}
    total.reset()
    assert total.is_empty()


def test_prometheus_counts_sums_and_shows_the_latest() -> None:
    """With vLLM's labels, direction and peer; the data survives the way between the processes."""
    registry = CollectorRegistry()
    kinds = {
        kind: lambda *args, _kind=kind, **kwargs: _kind(*args, **kwargs, registry=registry)
        for kind in (Counter, Gauge, Histogram)
    }

    class Config:
        kv_transfer_config = None

    metrics = LinkMetrics(Config(), kinds, ["model_name", "engine"], {0: ["tiny", "0"]})  # type: ignore[arg-type]
    for link in (
        LinkStatistics("edge-0", True, delivered_bytes=7, goodput_bytes_s=5.0, credit_stall_s=0.5),
        LinkStatistics("edge-0", True, delivered_bytes=3, goodput_bytes_s=4.0, is_congested=True),
    ):
        data = msgspec.msgpack.decode(msgspec.msgpack.encode(news_of(link).to_dict()))
        metrics.observe(data, 0)
    labels = {"model_name": "tiny", "engine": "0", "direction": "send", "peer": "edge-0"}
    value = registry.get_sample_value
    assert value("prfaas_link_delivered_bytes_total", labels) == 10
    assert value("prfaas_link_credit_stall_seconds_total", labels) == 0.5
    assert value("prfaas_link_goodput_bytes_per_second", labels) == 4.0
    assert value("prfaas_link_congested", labels) == 1
