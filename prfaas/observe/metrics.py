"""The gateway's metrics. Remote tokens and bytes count when the decode engine used them, not when they were planned."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Metric, disable_created_metrics, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from prfaas import __version__
from prfaas.observe import feeds, links, movers, site_links
from prfaas.observe.control import ControlMetrics
from prfaas.observe.decisions import Decision
from prfaas.observe.definitions import Definition, Definitions
from prfaas.observe.engines import EngineMetrics
from prfaas.observe.lead import Lead
from prfaas.observe.process import ProcessMetrics
from prfaas.observe.stages import StageMetrics
from prfaas.observe.tenants import TenantMetrics
from prfaas.types import TransferReport

_LATENCY_BUCKETS_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300)
"""From a cached short prompt to a very long one behind a queue."""


_RATIO_BUCKETS = (0.25, 0.5, 0.67, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 4.0, 8.0)
"""Below 1 the prediction was too long, above it too short."""


class Metrics:
    """All metrics of one gateway in one registry of its own.

    Attributes:
        links, site_links: what the engines say of the links between them, by pair of engines and by pair of sites.
        movers: what their movers do.
        feeds: what goes wrong on the way of their cache events.
        engines: how they are.
        tenants: what each tenant and each class of requests costs.
        control: what the controller says, wants and does.
        stages: where the time of requests goes.
        process: what this process takes.
        definitions: of all of them.
    """

    def __init__(self, workers_folder: str | None = None) -> None:
        """``workers_folder``: where several workers keep their values; each then tells those of all."""
        # Another series for each counter and histogram, which nobody here asks for.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # has no types
        self._workers_folder = workers_folder
        self.registry = CollectorRegistry()
        defined = Definitions(self.registry)
        self._definitions = defined
        self.links, self.site_links = links.LinkCollector(), site_links.SiteLinkCollector(defined, Lead(workers_folder))
        self.movers, self.feeds = movers.MoverCollector(), feeds.FeedCollector()
        # Every worker asks the engines by itself.
        self._asked: tuple[Collector, ...] = (self.links, self.site_links, self.movers, self.feeds)
        for collector, module in zip(self._asked, (links, site_links, movers, feeds), strict=True):
            defined.collector(collector, module.DEFINITIONS)
        self.engines = EngineMetrics(defined)
        self.tenants = TenantMetrics(defined)
        self.control = ControlMetrics(defined)
        self.stages = StageMetrics(defined)
        self.process = ProcessMetrics(defined, __version__)
        self._define_requests(defined)
        self._define_evidence(defined)

    def _define_requests(self, defined: Definitions) -> None:
        self.ready = defined.gauge("prfaas_ready", "1 while a local decode engine is well and takes requests.")
        self.inflight = defined.gauge("prfaas_inflight_requests", "Requests being worked on.", mode="livesum")
        self._requests = defined.counter(
            "prfaas_requests_total", "Answered requests.", ["placement", "outcome", "status"]
        )
        self._rejected = defined.counter(
            "prfaas_rejected_requests_total", "Requests refused before placement.", ["status"]
        )
        self._faults = defined.counter(
            "prfaas_faults_total",
            "Faults on the way to answers, by stage and reason; most are made good by another try.",
            ["stage", "reason"],
        )
        self._spans = defined.counter(
            "prfaas_trace_spans_total",
            "Spans of traces that were sent, or dropped because nobody took them in time.",
            ["outcome"],
        )
        self._first_output_s = defined.histogram(
            "prfaas_time_to_first_token_seconds",
            "From the request's arrival to the engine's first output (streamed answers).",
            _LATENCY_BUCKETS_S,
            ["placement"],
        )
        self._prediction_ratio = defined.histogram(
            "prfaas_first_token_prediction_ratio",
            "Measured over predicted time from placement to first token (streamed answers).",
            _RATIO_BUCKETS,
            ["placement"],
        )

    def _define_evidence(self, defined: Definitions) -> None:
        self._remote_tokens = defined.counter(
            "prfaas_remote_tokens_total", "Prompt tokens whose cache came from another site and was used."
        )
        self._remote_bytes = defined.counter("prfaas_remote_cache_bytes_total", "Cache bytes of used transfers.")
        self._early_bytes = defined.counter(
            "prfaas_remote_early_bytes_total", "Cache bytes of used transfers that came before their prefill ended."
        )
        self._site_tokens = defined.counter(
            "prfaas_site_transfer_tokens_total",
            "Prompt tokens whose cache came from another engine of the same site and was used.",
        )
        self._recomputes = defined.counter(
            "prfaas_unplanned_recompute_total", "Remote prefills that were recomputed locally: alarm on it."
        )
        self._causes = defined.counter(
            "prfaas_recompute_causes_total",
            "Remote prefills that were recomputed locally, by the fault behind it.",
            ["reason"],
        )
        self._unknowns = defined.counter(
            "prfaas_unknown_outcome_total",
            "Remote prefills of which the decode engine never told whether their cache was used: alarm on it.",
        )

    @property
    def definitions(self) -> tuple[Definition, ...]:
        return tuple(self._definitions.all)

    def count_rejected(self, status: int) -> None:
        """A request that was answered with an error before it was placed."""
        self._rejected.labels(str(status)).inc()

    def count_ended(self, decision: Decision, *, is_stream: bool, cause: str = "unknown") -> None:
        """A request that was placed and has ended. ``cause`` is the fault for which it was recomputed, if it was."""
        self._requests.labels(decision.placement, decision.outcome, str(decision.status or 0)).inc()
        if is_stream and decision.first_output_s is not None:
            self._first_output_s.labels(decision.placement).observe(decision.first_output_s)
        if is_stream and (ratio := decision.prediction_ratio) is not None:
            self._prediction_ratio.labels(decision.placement).observe(ratio)
        if decision.outcome == "recomputed":
            self._recomputes.inc()
            self._causes.labels(cause).inc()
        if decision.outcome == "unknown":
            self._unknowns.inc()
        if decision.report is not None and decision.report.ok:
            is_remote = decision.placement == "remote" and decision.outcome != "recomputed"
            self._count_used(is_remote, decision.report)
        self.stages.count(decision)  # last: a mistake in its arithmetic costs no alarm

    def _count_used(self, is_remote: bool, report: TransferReport) -> None:
        if not is_remote:
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

    def forget(self, engine: str) -> None:
        """The engine was taken out of the configuration."""
        self.engines.forget(engine)
        self.links.forget(engine)
        self.movers.note(engine, None)

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return b"".join(self.parts())

    def parts(self) -> Iterator[bytes]:
        """The same metric by metric: whoever has streams to serve does so in between."""
        for family in self._shown().collect():
            yield generate_latest(_Alone(family))

    def _shown(self) -> CollectorRegistry:
        if self._workers_folder is None:
            return self.registry
        registry = CollectorRegistry()
        MultiProcessCollector(registry, self._workers_folder)  # type: ignore[no-untyped-call]  # has no types
        for collector in self._asked:
            registry.register(collector)
        return registry


class _Alone(Collector):
    """One metric as if there were no other."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterator[Metric]:
        yield self._family
