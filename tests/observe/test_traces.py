"""Spans to a collector on loopback."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from prfaas.errors import ConfigError
from prfaas.observe.settings import TraceSettings
from prfaas.observe.traces import MAX_WAITING_SPANS, open_tracer
from prfaas.tracing import NO_TRACER, TraceContext
from tests.recorder import Collector, collector

PATIENCE_S = 60.0
"""Bound of every wait here; never reached by a test that passes."""
THEIRS = TraceContext("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "vendor=1")


def until(is_so: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.005)  # for a thread of the SDK


def settings(to: Collector, ratio: float | None = None) -> TraceSettings:
    return TraceSettings("prfaas-test", to.url, ratio, {"prfaas.site": "edge"})


def test_span_arrives_with_what_was_said_of_it() -> None:
    """Parent, link, attributes, error and order of times; what is said after its end is not."""
    with collector() as there:
        tracer = open_tracer(settings(there))
        whole = tracer.span("request", THEIRS, kind="server", engine="edge-0", site=None)
        with tracer.span("stage", whole, link=THEIRS) as part:
            part.note(tokens=7)
            part.fail("full")
        whole.end()
        whole.note(late=1)
        whole.end()
        tracer.close(PATIENCE_S)
        stage, request = there.spans()
    assert (request.name, request.service, stage.name) == ("request", "prfaas-test", "stage")
    assert (request.trace_id, request.parent_id) == (THEIRS.traceparent[3:35], THEIRS.traceparent[36:52])
    assert (stage.trace_id, stage.parent_id, stage.links) == (request.trace_id, request.span_id, (request.parent_id,))
    assert (request.attributes, request.is_error) == ({"prfaas.engine": "edge-0"}, False)
    assert (stage.attributes, stage.is_error) == ({"prfaas.tokens": 7}, True)
    assert request.start_ns <= stage.start_ns <= stage.end_ns <= request.end_ns


def test_context_goes_on_with_the_trace() -> None:
    """What the next process is told is this span, in the client's trace with its flags and state."""
    with collector() as there:
        tracer = open_tracer(settings(there))
        span = tracer.span("request", THEIRS)
        assert span.context is not None
        assert span.context.traceparent[:36] == THEIRS.traceparent[:36]
        assert span.context.traceparent[36:] != THEIRS.traceparent[36:]
        assert span.context.tracestate == "vendor=1"
        tracer.close(PATIENCE_S)


def test_exceptions_text_is_not_sent() -> None:
    """It may quote what a client sent: the type says what went wrong."""
    with collector() as there:
        tracer = open_tracer(settings(there))
        with pytest.raises(ValueError, match="planted"), tracer.span("tokenise"):
            raise ValueError("planted")
        tracer.close(PATIENCE_S)
        assert [span.is_error for span in there.spans()] == [True]
    assert b"ValueError" in there.bodies[0]
    assert b"planted" not in there.bodies[0]


def test_ratio_is_of_traces_that_begin_here() -> None:
    """With none of them, a client's own trace goes on all the same, and one that it does not sample is not sent."""
    with collector() as there:
        tracer = open_tracer(settings(there, ratio=0.0))
        tracer.span("begun here").end()
        tracer.span("sampled", THEIRS).end()
        tracer.span("not sampled", TraceContext(f"{THEIRS.traceparent[:-1]}0")).end()
        tracer.close(PATIENCE_S)
        assert [span.name for span in there.spans()] == ["sampled"]


def test_collector_that_is_down_costs_spans_alone() -> None:
    """Spans are dropped and counted, those that find no room too; ending one never waits; afterwards they are sent."""
    told: dict[str, int] = {}
    lock = threading.Lock()

    def count(outcome: str, spans: int) -> None:
        with lock:
            told[outcome] = told.get(outcome, 0) + spans

    made = MAX_WAITING_SPANS + 500
    with collector() as there:
        there.status = 400
        tracer = open_tracer(settings(there), count)
        for _ in range(made):
            tracer.span("request").end()
        until(lambda: told.get("dropped") == made)
        assert tracer.dropped_spans == made
        there.status = 200
        tracer.span("request").end()
        tracer.close(PATIENCE_S)
        assert len(there.spans()) == told["sent"] == 1


def test_room_is_bounded_while_a_batch_is_under_way() -> None:
    """A collector that keeps the sender waiting has it hold so many spans and no more; the others are dropped."""
    told: list[tuple[str, int]] = []
    with collector() as there:
        there.delay_s = 1.0
        tracer = open_tracer(settings(there), lambda outcome, spans: told.append((outcome, spans)))
        for _ in range(2 * MAX_WAITING_SPANS):
            tracer.span("request").end()
        assert 0 < tracer.dropped_spans <= MAX_WAITING_SPANS
        there.delay_s = 0.0
        tracer.close(PATIENCE_S)
    assert sum(spans for _, spans in told) == 2 * MAX_WAITING_SPANS


def test_close_waits_no_longer_than_it_may() -> None:
    """A collector that does not answer cannot keep a process from ending."""
    with collector() as there:
        there.delay_s = 3.0
        tracer = open_tracer(settings(there))
        tracer.span("request").end()
        began_s = time.monotonic()
        tracer.close(0.05)
        assert time.monotonic() - began_s < there.delay_s


def test_without_settings_nothing_is_traced() -> None:
    """And nothing of OpenTelemetry is loaded: not by the gateway, not by a mover."""
    assert open_tracer(None) is NO_TRACER
    check = (
        "import sys, prfaas.gateway.serve, prfaas.transport.mover\n"
        "from prfaas.observe.traces import open_tracer\n"
        "open_tracer(None).span('request').end()\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


def test_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to type."""
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(ConfigError, match=r"observe\.traces: .* pip install 'prfaas\[traces\]'"):
        open_tracer(TraceSettings("prfaas-test"))
