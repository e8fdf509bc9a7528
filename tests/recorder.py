"""A tracer that keeps its spans, and a collector that takes them over HTTP as OTLP."""

import http.server
import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from prfaas.tracing import Kind, Span, TraceContext, Value


@dataclass
class Kept:
    """A span that is kept."""

    name: str
    number: int
    parent: TraceContext | None
    attributes: dict[str, Value]
    link: TraceContext | None = None
    why: str = ""
    is_over: bool = False

    @property
    def context(self) -> TraceContext:
        return TraceContext(f"00-{'ab' * 16}-{self.number:016x}-01")

    def note(self, **attributes: Value) -> None:
        self.attributes |= attributes

    def fail(self, why: str) -> None:
        if not self.is_over:
            self.why = why

    def end(self) -> None:
        self.is_over = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.why = kind.__name__ if kind else self.why
        self.end()


class Recorder:
    """Keeps all spans, in the order in which they begin."""

    is_on = True
    dropped_spans = 0

    def __init__(self) -> None:
        self.spans: list[Kept] = []
        self._numbers = itertools.count(1)

    def span(
        self,
        name: str,
        parent: Span | TraceContext | None = None,
        *,
        kind: Kind = "internal",
        link: TraceContext | None = None,
        **attributes: Value,
    ) -> Kept:
        context = parent if parent is None or isinstance(parent, TraceContext) else parent.context
        self.spans.append(Kept(name, next(self._numbers), context, attributes, link))
        return self.spans[-1]

    def close(self, timeout_s: float) -> None:
        pass

    def named(self, name: str) -> Kept:
        """The only span of this name."""
        (found,) = (span for span in self.spans if span.name == name)
        return found

    def parents(self) -> dict[str, str]:
        """Name of each span -> name of its parent, empty when that is not among them."""
        names = {span.context: span.name for span in self.spans}
        return {span.name: names.get(span.parent, "") if span.parent else "" for span in self.spans}


@dataclass(frozen=True)
class Sent:
    """A span as it came to the collector; times in nanoseconds since 1970."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    links: tuple[str, ...]
    is_error: bool


@dataclass
class Collector:
    """What has come; ``status`` is what it answers, after ``delay_s``."""

    url: str = ""
    bodies: list[bytes] = field(default_factory=list)
    status: int = 200
    delay_s: float = 0.0

    def spans(self) -> list[Sent]:
        """All that have come."""
        return [span for body in self.bodies for span in _spans_of(body)]


@contextmanager
def collector() -> Iterator[Collector]:
    """One that runs, in threads of its own, so that neither a loop nor its absence matters."""
    running = Collector()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            time.sleep(running.delay_s)  # as a collector that is slow: its answer is what is late
            if running.status == 200:
                running.bodies.append(body)
            self.send_response(running.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        running.url = f"http://127.0.0.1:{server.server_port}/v1/traces"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield running
        finally:
            server.shutdown()
            thread.join()


def _spans_of(body: bytes) -> Iterator[Sent]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        service = _values(resource.resource.attributes)["service.name"]
        for span in (span for scope in resource.scope_spans for span in scope.spans):
            yield Sent(
                service,
                span.name,
                span.trace_id.hex(),
                span.span_id.hex(),
                span.parent_span_id.hex(),
                span.start_time_unix_nano,
                span.end_time_unix_nano,
                _values(span.attributes),
                tuple(link.span_id.hex() for link in span.links),
                span.status.code == span.status.STATUS_CODE_ERROR,
            )


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}
