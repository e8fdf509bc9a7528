"""What movers tell of transfers in traces."""

from collections.abc import Iterator

import pytest

from prfaas.observe.settings import TraceSettings
from prfaas.tracing import TraceContext
from prfaas.transport.messages import Cancel, LoadComplete, LoadFailed, LoadUsed, OfferSave, OpenLoad
from prfaas.transport.spans import TransferSpans
from tests.recorder import Collector, Recorder, Sent, collector
from tests.transport.movers import PATIENCE_S, Pair, TinyEngine, check_arrived, rows, statistics_of

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PREFILL, DECODE = "00f067aa0ba902b7", "00f067aa0ba902b8"


def within(span_id: str) -> TraceContext:
    return TraceContext(f"00-{TRACE}-{span_id}-01")


@pytest.fixture(scope="module")
def there() -> Iterator[Collector]:
    with collector() as running:
        yield running


@pytest.fixture(scope="module")
def pair(there: Collector) -> Iterator[Pair]:
    traces = {
        site: TraceSettings("prfaas-mover", there.url, resource={"prfaas.site": site}) for site in ("cloud", "edge")
    }
    prefill = TinyEngine("cloud", traces=traces["cloud"])
    decode = TinyEngine("edge", traces=traces["edge"])
    yield Pair(prefill, decode)
    decode.close()
    prefill.close()


def offer(pair: Pair, transfer_id: str, tokens: int, *, is_traced: bool = True) -> None:
    of_prefill, of_decode = (within(PREFILL), within(DECODE)) if is_traced else (None, None)
    pair.prefill.scheduler.send(OfferSave(transfer_id, "planted", tokens, 30.0, trace=of_prefill))
    pair.decode.scheduler.send(OpenLoad(transfer_id, "planted", pair.remote, 30.0, trace=of_decode))
    pair.start(transfer_id, 0, tokens)


def told(pair: Pair, there: Collector, transfer_id: str, count: int) -> dict[str, Sent]:
    """The spans of a transfer by name, once there are so many."""

    def found() -> dict[str, Sent]:
        return {s.name: s for s in there.spans() if s.attributes["prfaas.transfer_id"] == transfer_id}

    pair.until(lambda: len(found()) >= count, PATIENCE_S)
    return found()


def test_transfer_is_told_by_both_movers(pair: Pair, there: Collector) -> None:
    """Save with its stages within the prefill, load with its own within the decode, all in one trace, in order."""
    pieces = rows(100)
    offer(pair, "traced", 100)
    pair.prefill.stage("traced", pieces, pair.poll)
    pair.end("traced", 100)
    assert isinstance(pair.outcome("traced"), LoadComplete)
    check_arrived(pair.decode, "traced", pieces)
    pair.decode.mover.channel.send(LoadUsed("traced", ok=True, reason=""))
    spans = told(pair, there, "traced", 6)
    assert {span.trace_id for span in spans.values()} == {TRACE}
    ids = {span.span_id: name for name, span in spans.items()} | {PREFILL: "prefill", DECODE: "decode"}
    assert {name: ids[span.parent_id] for name, span in spans.items()} == {
        "save": "prefill",
        "stage": "save",
        "send": "save",
        "load": "decode",
        "receive": "load",
        "inject": "load",
    }
    assert [ids[link] for link in spans["send"].links] == ["load"]
    assert spans["receive"].end_ns <= spans["inject"].start_ns <= spans["inject"].end_ns <= spans["load"].end_ns
    assert spans["stage"].start_ns <= spans["receive"].end_ns
    assert spans["load"].attributes["prfaas.cache_bytes"] == sum(len(data) for _, data in pieces)
    assert not any(span.is_error for span in spans.values())
    assert b"planted" not in b"".join(there.bodies)


def test_failed_transfer_says_why_on_both_sides(pair: Pair, there: Collector) -> None:
    """Its open stages end with it, as errors."""
    offer(pair, "given-up", 100)
    pair.prefill.stage("given-up", rows(20), pair.poll)
    pair.until(lambda: "given-up" in pair.decode.payloads)
    pair.prefill.scheduler.send(Cancel("given-up", "the prefill request was aborted"))
    assert isinstance(pair.outcome("given-up"), LoadFailed)
    spans = told(pair, there, "given-up", 5)
    assert {name for name, span in spans.items() if span.is_error} == {"save", "stage", "send", "load", "receive"}


def test_transfer_without_a_trace_makes_no_spans(pair: Pair, there: Collector) -> None:
    """Movers begin no traces."""
    pieces = rows(20)
    offer(pair, "untraced", 20, is_traced=False)
    pair.prefill.stage("untraced", pieces, pair.poll)
    pair.end("untraced", 20)
    assert isinstance(pair.outcome("untraced"), LoadComplete)
    pair.decode.mover.channel.send(LoadUsed("untraced", ok=True, reason=""))
    check_arrived(pair.decode, "untraced", pieces)
    pair.settle()
    assert not any(span.attributes["prfaas.transfer_id"] == "untraced" for span in there.spans())


def test_collector_that_is_down_harms_no_transfer(pair: Pair, there: Collector) -> None:
    """Transfers go on as ever; the mover counts what it could not send."""
    there.status = 400
    try:
        before = statistics_of(pair.decode).dropped_spans
        pieces = rows(50)
        offer(pair, "unheard", 50)
        pair.prefill.stage("unheard", pieces, pair.poll)
        pair.end("unheard", 50)
        assert isinstance(pair.outcome("unheard"), LoadComplete)
        check_arrived(pair.decode, "unheard", pieces)
        pair.decode.mover.channel.send(LoadUsed("unheard", ok=True, reason=""))
        pair.until(lambda: statistics_of(pair.decode).dropped_spans >= before + 3)
    finally:
        there.status = 200


def test_last_spans_are_sent_as_the_mover_stops(there: Collector) -> None:
    """What ended just before is not lost with the process."""
    traces = TraceSettings("prfaas-mover", there.url)
    prefill, decode = TinyEngine("cloud", traces=traces), TinyEngine("edge", traces=traces)
    pair = Pair(prefill, decode)
    try:
        offer(pair, "last", 20)
        prefill.stage("last", rows(20), pair.poll)
        pair.end("last", 20)
        assert isinstance(pair.outcome("last"), LoadComplete)
        decode.mover.channel.send(LoadUsed("last", ok=True, reason=""))
    finally:
        decode.close()
        prefill.close()
    names = {span.name for span in there.spans() if span.attributes["prfaas.transfer_id"] == "last"}
    assert names == {"save", "stage", "send", "load", "receive", "inject"}


def test_stage_is_told_once() -> None:
    """However often it is said to begin; nothing is kept of a transfer that is over."""
    recorder = Recorder()
    spans = TransferSpans(recorder)
    spans.open("save", "t", within(PREFILL))
    for _ in range(3):
        spans.begin("stage", "t")
    spans.close("t", "")
    spans.begin("stage", "t")
    spans.end("stage", "t")
    spans.close("t", "late")
    assert [(span.name, span.is_over, span.why) for span in recorder.spans] == [("save", True, ""), ("stage", True, "")]
