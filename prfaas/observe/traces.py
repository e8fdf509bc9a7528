"""Spans by OpenTelemetry, sent as OTLP over HTTP. The only module that knows it, and only once a tracer is opened.

A thread of the SDK sends, in batches; whoever ends a span only puts it into a bounded queue. While nobody takes spans
they are dropped and counted, so that a collector that is down costs nothing but its traces.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from prfaas.errors import ConfigError
from prfaas.observe.logs import RateBound
from prfaas.observe.settings import TraceSettings
from prfaas.tracing import NO_TRACER, Kind, Span, TraceContext, Tracer, Value

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span as SdkSpan
    from opentelemetry.trace import SpanContext

MAX_WAITING_SPANS = 2_048
"""A few hundred requests' spans, a kilobyte each: what is made while one batch is being sent."""
BATCH_SPANS = 64
"""Encoding holds the interpreter: as many as take about 2 ms, so that a mover's loop is not held up for longer."""
SEND_INTERVAL_MS = 1_000
"""How old a span gets before it leaves."""
SEND_TIMEOUT_S = 5.0
"""A collector that takes longer for a batch costs it: what comes meanwhile has to find room."""
REASON_INTERVAL_S = 60.0
"""Between two lines of the exporter that say why a batch did not get through: one a batch would be one a second."""

CountSpans = Callable[[str, int], None]
"""Told what became of so many spans, ``sent`` or ``dropped``. Called from the sending thread, too."""

log = logging.getLogger(__name__)


def open_tracer(settings: TraceSettings | None, count: CountSpans = lambda outcome, spans: None) -> Tracer:
    """The process's tracer, to be closed by whoever opened it; one that does nothing without settings.

    Raises:
        ConfigError: OpenTelemetry is not installed.
    """
    if settings is None:
        return NO_TRACER
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ModuleNotFoundError as error:
        raise ConfigError(f"observe.traces: it needs {error.name}: pip install 'prfaas[traces]'") from None
    logging.getLogger(OTLPSpanExporter.__module__).addFilter(RateBound(1, 1 / REASON_INTERVAL_S))
    exporter = OTLPSpanExporter(endpoint=settings.endpoint, timeout=SEND_TIMEOUT_S)
    return OtelTracer(settings, SpanCounts(count), exporter)


class SpanCounts:
    """What became of a process's spans. ``taken`` and ``queue_dropped`` are counted where spans end, the others by the
    thread that sends, so that none is written by two."""

    def __init__(self, tell: CountSpans) -> None:
        self._tell = tell
        self.taken = self.handed_over = 0
        self.unsent_dropped = self.queue_dropped = 0

    @property
    def dropped(self) -> int:
        return self.unsent_dropped + self.queue_dropped

    def take(self) -> bool:
        """A span has ended; whether there is room for it."""
        if self.taken - self.handed_over >= MAX_WAITING_SPANS:
            self.queue_dropped += 1
            self._tell("dropped", 1)
            return False
        self.taken += 1
        return True

    def hand_over(self, spans: int, *, is_sent: bool) -> None:
        """So many have left the queue."""
        self.handed_over += spans
        if not is_sent:
            self.unsent_dropped += spans
        self._tell("sent" if is_sent else "dropped", spans)


class OtelTracer:
    """Begins spans; see ``Tracer``."""

    is_on = True

    def __init__(self, settings: TraceSettings, counts: SpanCounts, exporter: "SpanExporter") -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

        ratio = settings.sample_ratio
        self._counts = counts
        self._provider = TracerProvider(
            sampler=None if ratio is None else ParentBasedTraceIdRatio(ratio),
            resource=Resource.create({"service.name": settings.service, **settings.resource}),
            shutdown_on_exit=False,  # it would wait for half a minute
        )
        self._provider.add_span_processor(_processor(counts, exporter))
        self._tracer = self._provider.get_tracer("prfaas")

    @property
    def dropped_spans(self) -> int:
        return self._counts.dropped

    def span(
        self,
        name: str,
        parent: Span | TraceContext | None = None,
        *,
        kind: Kind = "internal",
        link: TraceContext | None = None,
        **attributes: Value,
    ) -> Span:
        from opentelemetry import trace
        from opentelemetry.context import Context

        within = parent.context if parent is not None and not isinstance(parent, TraceContext) else parent
        context = Context()  # not that of the task or thread: who begins a span says within what
        if within is not None:
            context = trace.set_span_in_context(trace.NonRecordingSpan(_sdk_context(within)), context)
        span = self._tracer.start_span(
            name,
            context,
            kind=trace.SpanKind[kind.upper()],
            attributes=_attributes(attributes),
            links=[trace.Link(_sdk_context(link))] if link is not None else None,
        )
        return OtelSpan(span)

    def close(self, timeout_s: float) -> None:
        # The SDK has no deadline for this: an export under way takes as long as the collector lets it.
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(timeout_s)


class OtelSpan:
    """One span; see ``Span``."""

    def __init__(self, span: "SdkSpan") -> None:
        self._span = span
        self._context: TraceContext | None = None
        self._is_over = False

    @property
    def context(self) -> TraceContext:
        if self._context is None:
            ours = self._span.get_span_context()
            traceparent = f"00-{ours.trace_id:032x}-{ours.span_id:016x}-{ours.trace_flags:02x}"
            self._context = TraceContext(traceparent, ours.trace_state.to_header())
        return self._context

    def note(self, **attributes: Value) -> None:
        if not self._is_over:
            self._span.set_attributes(_attributes(attributes))

    def fail(self, why: str) -> None:
        from opentelemetry.trace import Status, StatusCode

        if not self._is_over:
            self._span.set_status(Status(StatusCode.ERROR, why))

    def end(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._span.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and issubclass(kind, asyncio.CancelledError):
            self.note(cancelled=True)  # nobody needed it any more, which is no failure
        elif kind is not None:
            self.fail(kind.__name__)  # not its text, which may quote what the client sent
        self.end()


def _attributes(attributes: dict[str, Value]) -> dict[str, Any]:
    return {f"prfaas.{name}": value for name, value in attributes.items() if value is not None}


def _sdk_context(context: TraceContext) -> "SpanContext":
    from opentelemetry.trace import SpanContext, TraceFlags, TraceState

    _, trace_id, span_id, flags = context.traceparent.split("-")
    state = TraceState.from_header([context.tracestate]) if context.tracestate else None
    return SpanContext(int(trace_id, 16), int(span_id, 16), True, TraceFlags(int(flags, 16)), state)


def _processor(counts: SpanCounts, exporter: "SpanExporter") -> Any:
    """The SDK's queue and thread, bounded and counted."""
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Counted(SpanExporter):
        """Tells what became of each batch, and the log when a collector takes none any more, or some again."""

        def __init__(self) -> None:
            self._is_failing = False

        def export(self, spans: Sequence["ReadableSpan"]) -> SpanExportResult:
            result = exporter.export(spans)
            is_sent = result is SpanExportResult.SUCCESS
            counts.hand_over(len(spans), is_sent=is_sent)
            if is_sent is self._is_failing:
                self._is_failing = not is_sent
                level, what = (
                    (logging.INFO, "sent again") if is_sent else (logging.WARNING, "dropped: nobody takes them")
                )
                log.log(level, "traces are %s", what)
            return result

        def shutdown(self) -> None:
            exporter.shutdown()

    class Bounded(BatchSpanProcessor):
        """Asks for room before the SDK does, which would not say what it drops."""

        def on_end(self, span: "ReadableSpan") -> None:
            if span.context is not None and span.context.trace_flags.sampled and counts.take():
                super().on_end(span)

    return Bounded(Counted(), MAX_WAITING_SPANS, SEND_INTERVAL_MS, BATCH_SPANS)
