"""The gateway's metrics. Remote tokens and bytes count when the decode engine used them, not when they were planned."""

from collections.abc import Iterable
from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from prfaas.observe.control import ControlMetrics
from prfaas.observe.decisions import Decision
from prfaas.observe.feeds import FeedCollector
from prfaas.observe.links import LinkCollector
from prfaas.observe.tenants import TenantMetrics
from prfaas.types import TransferReport

_LATENCY_BUCKETS_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300)
"""From a cached short prompt to a very long one behind a queue."""


_RATIO_BUCKETS = (0.25, 0.5, 0.67, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 4.0, 8.0)
"""Below 1 the prediction was too long, above it too short."""


class Metrics:
    """All metrics of one gateway in one registry of its own.

    Attributes:
        links: what the engines say of the links between them.
        feeds: what goes wrong on the way of their cache events.
        tenants: what each tenant and each class of requests costs.
        control: what the controller says, wants and does.
    """

    def __init__(self, workers_folder: str | None = None) -> None:
        """``workers_folder``: where several workers keep their values; each then tells those of all."""
        self._workers_folder = workers_folder
        self.registry = registry = CollectorRegistry()
        self.links = LinkCollector()
        self.feeds = FeedCollector()
        self.tenants = TenantMetrics(registry)
        self.control = ControlMetrics(registry)
        registry.register(self.links)
        registry.register(self.feeds)
        self._requests = Counter(
            "prfaas_requests", "Answered requests.", ["placement", "outcome", "status"], registry=registry
        )
        self._rejected = Counter(
            "prfaas_rejected_requests", "Requests refused before placement.", ["status"], registry=registry
        )
        self._remote_tokens = Counter(
            "prfaas_remote_tokens", "Prompt tokens whose cache came from another site and was used.", registry=registry
        )
        self._remote_bytes = Counter("prfaas_remote_cache_bytes", "Cache bytes of used transfers.", registry=registry)
        self._early_bytes = Counter(
            "prfaas_remote_early_bytes", "Of those, bytes that came before the prefill ended.", registry=registry
        )
        self._recomputes = Counter(
            "prfaas_unplanned_recompute",
            "Remote prefills that were recomputed locally: alarm on it.",
            registry=registry,
        )
        self._unknowns = Counter(
            "prfaas_unknown_outcome",
            "Remote prefills of which the decode engine never told whether their cache was used: alarm on it.",
            registry=registry,
        )
        self._faults = Counter(
            "prfaas_faults",
            "Faults on the way to answers, by stage and reason; most are made good by another try.",
            ["stage", "reason"],
            registry=registry,
        )
        self._spans = Counter(
            "prfaas_trace_spans",
            "Spans of traces that were sent, or dropped because nobody took them in time.",
            ["outcome"],
            registry=registry,
        )
        self._first_output_s = Histogram(
            "prfaas_time_to_first_token_seconds",
            "From the request's arrival to the engine's first output (streamed answers).",
            ["placement"],
            buckets=_LATENCY_BUCKETS_S,
            registry=registry,
        )
        self._site_tokens = Counter(
            "prfaas_site_transfer_tokens",
            "Prompt tokens whose cache came from another engine of the same site and was used.",
            registry=registry,
        )
        self._prediction_ratio = Histogram(
            "prfaas_first_token_prediction_ratio",
            "Measured over predicted time from placement to first token (streamed answers).",
            ["placement"],
            buckets=_RATIO_BUCKETS,
            registry=registry,
        )
        self.inflight = Gauge(
            "prfaas_inflight_requests",
            "Requests being worked on.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._healthy = Gauge(
            "prfaas_engine_healthy",
            "1 when the engine is well.",
            ["engine"],
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self._open = Gauge(
            "prfaas_engine_breaker_open",
            "1 while the engine's circuit breaker is open.",
            ["engine"],
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self._knowledge = Gauge(
            "prfaas_prefix_knowledge",
            "How the engine's prefix cache is known, 1 for what is so: exact, partial (events were lost) or guessed.",
            ["engine", "knowledge"],
            registry=registry,
            multiprocess_mode="mostrecent",
        )

        self._prefill_speed = Gauge(
            "prfaas_prefill_tokens_per_second",
            "How fast the engine prefills a long prompt, as measured; absent until enough prompts were.",
            ["engine"],
            registry=registry,
            multiprocess_mode="mostrecent",
        )

    def count_rejected(self, status: int) -> None:
        """A request that was answered with an error before it was placed."""
        self._rejected.labels(str(status)).inc()

    def count_ended(self, decision: Decision, *, is_stream: bool) -> None:
        """A request that was placed and has ended."""
        self._requests.labels(decision.placement, decision.outcome, str(decision.status or 0)).inc()
        if is_stream and decision.first_output_s is not None:
            self._first_output_s.labels(decision.placement).observe(decision.first_output_s)
        if is_stream and (ratio := decision.prediction_ratio) is not None:
            self._prediction_ratio.labels(decision.placement).observe(ratio)
        if decision.outcome == "recomputed":
            self._recomputes.inc()
        if decision.outcome == "unknown":
            self._unknowns.inc()
        if decision.report is not None and decision.report.ok:
            self._count_used(decision.outcome, decision.report)

    def _count_used(self, outcome: str, report: TransferReport) -> None:
        if outcome != "remote":
            self._site_tokens.inc(report.tokens)
            return
        self._remote_tokens.inc(report.tokens)
        self._remote_bytes.inc(report.cache_bytes)
        self._early_bytes.inc(report.early_bytes)

    def count_fault(self, stage: str, reason: str) -> None:
        """Something failed; whether the request did is another question."""
        self._faults.labels(stage, reason).inc()

    def count_spans(self, outcome: str, spans: int) -> None:
        """So many spans were ``sent`` or ``dropped``. From any thread."""
        self._spans.labels(outcome).inc(spans)

    def set_health(self, engine: str, is_healthy: bool) -> None:
        self._healthy.labels(engine).set(int(is_healthy))

    def set_knowledge(self, engine: str, knowledge: str, of: Iterable[str]) -> None:
        """How an engine's prefix cache is known, one ``of`` some words."""
        for word in of:
            self._knowledge.labels(engine, word).set(int(word == knowledge))

    def set_prefill_speed(self, engine: str, tokens_per_s: float) -> None:
        self._prefill_speed.labels(engine).set(tokens_per_s)

    def set_breaker(self, engine: str, is_open: bool) -> None:
        self._open.labels(engine).set(int(is_open))

    def forget(self, engine: str) -> None:
        """The engine was taken out of the configuration."""
        for gauge in (self._healthy, self._open):
            gauge.labels(engine).set(0)  # several workers' files keep their last value for good
            with suppress(KeyError):
                gauge.remove(engine)
        for gauge in (self._knowledge, self._prefill_speed):
            gauge.remove_by_labels({"engine": engine})
        self.links.forget(engine)

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        if self._workers_folder is None:
            return generate_latest(self.registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry, self._workers_folder)  # type: ignore[no-untyped-call]  # has no types
        registry.register(self.links)  # every worker asks the engines by itself
        registry.register(self.feeds)
        return generate_latest(registry)
