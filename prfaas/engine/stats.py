"""The mover's link figures on their way into vLLM's own metrics and log.

The worker asks its mover at most once a second, while the engine steps (vLLM takes statistics from nowhere else); what
comes travels with the model runner's output to the scheduler and on to the API servers. Counters travel as what is
new, so that steps can be summed; all other figures as they are. The gateway asks the mover itself, also when the
engine rests (``ReportClient.statistics``).
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from prometheus_client import Counter, Gauge
from vllm.config import VllmConfig
from vllm.distributed.kv_transfer.kv_connector.v1.metrics import (
    KVConnectorPromMetrics,
    KVConnectorStats,
    PromMetric,
)

from prfaas.clock import Clock
from prfaas.transport.messages import AskStatistics
from prfaas.types import LINK_METRICS, LinkStatistics

ASK_EVERY_S = 1.0

COUNTERS = tuple(metric.field for metric in LINK_METRICS if metric.is_counter)

Links = dict[str, dict[str, float]]
"""Direction and peer ("send/edge-0") -> field -> value."""


class LinkStats(KVConnectorStats):
    """What vLLM carries from the worker to its metrics; ``data`` holds ``Links``."""

    def reset(self) -> None:
        self.data: Links = {}

    def is_empty(self) -> bool:
        return not self.data

    def aggregate(self, other: KVConnectorStats) -> "LinkStats":
        """Add later figures of the same engine: counters sum up, of all others the later ones hold."""
        for name, values in other.data.items():
            ours = self.data.setdefault(name, dict.fromkeys(COUNTERS, 0))
            sums = {field: ours[field] + values[field] for field in COUNTERS}
            ours.update({**values, **sums})
        return self

    def reduce(self) -> dict[str, int | float]:
        """For vLLM's log line: links that carried something since the last one."""
        figures: dict[str, int | float] = {}
        for name, values in self.data.items():
            if values["delivered_bytes"]:
                figures[f"{name} MB"] = round(values["delivered_bytes"] / 1e6, 1)
                figures[f"{name} MB/s"] = round(values["goodput_bytes_s"] / 1e6, 1)
                figures[f"{name} RTT (ms)"] = round(values["rtt_s"] * 1e3, 1)
        return figures


class StatisticsAsker:
    """Asks the mover and keeps what is new until vLLM takes it. Owned by the model runner's thread."""

    def __init__(self, send: Callable[[AskStatistics], None], clock: Clock) -> None:
        self._send, self._clock = send, clock
        self._ask_s = clock.now_s()
        self._is_asked = False
        self._counted: dict[str, dict[str, float]] = {}
        self._news = LinkStats({})

    def heard(self, links: Iterable[LinkStatistics]) -> None:
        """The mover has answered."""
        self._is_asked = False
        for link in links:
            name, figures = f"{'send' if link.is_sending else 'receive'}/{link.peer}", asdict(link)
            counted = self._counted.get(name, dict.fromkeys(COUNTERS, 0))
            # A peer that the mover had forgotten begins again at zero.
            new = {field: max(0, figures[field] - counted[field]) for field in COUNTERS}
            self._counted[name] = {field: figures[field] for field in COUNTERS}
            present = {metric.field: float(figures[metric.field]) for metric in LINK_METRICS}
            self._news.aggregate(LinkStats({name: {**present, **new}}))

    def take(self) -> LinkStats | None:
        """What is new since the last call; asks the mover again when it is time."""
        if not self._is_asked and self._clock.now_s() >= self._ask_s:
            self._is_asked, self._ask_s = True, self._clock.now_s() + ASK_EVERY_S
            self._send(AskStatistics())
        if self._news.is_empty():
            return None
        news, self._news = self._news, LinkStats({})
        return news


class LinkMetrics(KVConnectorPromMetrics):
    """``prfaas_link_*`` on the engine's own /metrics, with vLLM's labels, the direction and the peer's engine id."""

    def __init__(
        self,
        vllm_config: VllmConfig,
        metric_types: dict[type[PromMetric], type[Any]],
        labelnames: list[str],
        per_engine_labelvalues: dict[int, list[object]],
    ) -> None:
        super().__init__(vllm_config, metric_types, labelnames, per_engine_labelvalues)
        names = [*labelnames, "direction", "peer"]
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        for metric in LINK_METRICS:
            if metric.is_counter:
                self._counters[metric.field] = self._counter_cls(metric.name, metric.text, labelnames=names)
            else:
                self._gauges[metric.field] = self._gauge_cls(
                    metric.name, metric.text, labelnames=names, multiprocess_mode="mostrecent"
                )

    def observe(self, transfer_stats_data: Links, engine_idx: int = 0) -> None:
        """Take in the ``data`` of a ``LinkStats``."""
        for name, values in transfer_stats_data.items():
            labels = (*self.per_engine_labelvalues[engine_idx], *name.split("/", 1))
            for field, counter in self._counters.items():
                counter.labels(*labels).inc(values[field])
            for field, gauge in self._gauges.items():
                gauge.labels(*labels).set(values[field])
