"""The spans of a request, and what the engines are told of them."""

import asyncio
from collections.abc import AsyncIterator
from unittest.mock import AsyncMock, Mock

import pytest

from prfaas.tracing import TraceContext
from prfaas.types import TransferReport
from tests.gateway.fakes import Stand, eventually, stand
from tests.gateway.stub_engine import (
    FAILURE,
    Script,
    answer_at_once,
    break_off,
    hold,
    hold_remote_answer_local,
    one_after_another,
    pause_after_first,
    refuse,
)
from tests.gateway.test_fallback import USED, decode
from tests.gateway.test_silence import impatient, predict
from tests.gateway.wide import wide
from tests.recorder import Recorder

THEIRS = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def traced(recorder: Recorder) -> AsyncIterator[Stand]:
    async with stand(tracer=recorder) as running:
        yield running


async def over(recorder: Recorder, *names: str) -> None:
    """Wait until these have ended; the request's is the last thing of all."""
    await eventually(lambda: {*names} <= {span.name for span in recorder.spans if span.is_over})


async def test_remote_request_is_told_stage_by_stage(traced: Stand, recorder: Recorder) -> None:
    """Each stage is a span within the request's, and all of them end."""
    answer = await traced.chat(20, stream=True)
    await answer.read()
    call = await traced.edge.call(0)
    traced.reports.give(TransferReport(call.params["prfaas"]["transfer_id"], ok=True, tokens=19))
    await over(recorder, "request")
    assert recorder.parents() == {
        "request": "",
        "tokenise": "request",
        "place": "request",
        "decode": "request",
        "prefill": "request",
        "first token": "decode",
    }
    assert all(span.is_over and not span.why for span in recorder.spans)
    request, decode, prefill = (recorder.named(name) for name in ("request", "decode", "prefill"))
    assert request.attributes["request_id"] == answer.headers["x-request-id"]
    assert (request.attributes["outcome"], request.attributes["status"]) == ("remote", 200)
    assert (decode.attributes["engine"], decode.attributes["site"]) == ("edge-0", "edge")
    assert (prefill.attributes["engine"], prefill.attributes["site"]) == ("cloud-0", "cloud")
    transfer_ids = {span.attributes["transfer_id"] for span in (request, decode, prefill)}
    assert transfer_ids == {answer.headers["x-prfaas-transfer-id"]}


async def test_engines_are_told_the_span_of_their_request(traced: Stand, recorder: Recorder) -> None:
    """In the headers, for vLLM, and in the transfer's parameters, for the movers: P its own, D its own."""
    await (await traced.chat(20)).read()
    for engine, name in ((traced.edge, "decode"), (traced.cloud, "prefill")):
        call, told = await engine.call(0), recorder.named(name).context.traceparent
        assert call.headers["traceparent"] == told
        assert call.params["prfaas"]["traceparent"] == told
        assert "tracestate" not in call.params["prfaas"]


async def test_clients_trace_goes_on(traced: Stand, recorder: Recorder) -> None:
    """One that it gives is the request's parent, one that it gets wrong is none; neither changes the answer."""
    for given, parent in ((THEIRS, TraceContext(THEIRS, "vendor=1")), ("00-wrong", None)):
        body = {"model": "tiny", "messages": [{"role": "user", "content": "word"}]}
        headers = {"traceparent": given, "tracestate": "vendor=1"}
        url = f"{traced.url}/v1/chat/completions"
        async with traced.client.post(url, json=body, headers=headers) as answer:
            assert answer.status == 200
        assert [span.parent for span in recorder.spans if span.name == "request"][-1] == parent


async def test_strangers_are_in_no_trace(recorder: Recorder) -> None:
    """Where keys are asked for, only a request with one begins a span; a stranger's trace is not gone on with."""
    tenants = {"acme": {"keys": [{"env": "ACME"}], "shares_cache": True}}
    body = {"model": "tiny", "messages": [{"role": "user", "content": "word"}]}
    async with stand(tracer=recorder, tenants=tenants, env={"ACME": "key-of-acme-0123456789"}) as running:
        for key, status in (("nobody", 401), ("acme", 200)):
            headers = {"traceparent": THEIRS, "authorization": f"Bearer key-of-{key}-0123456789"}
            url = f"{running.url}/v1/chat/completions"
            async with running.client.post(url, json=body, headers=headers) as answer:
                assert answer.status == status
            assert any(span.name == "request" for span in recorder.spans) == (status == 200)
    assert recorder.named("request").parent == TraceContext(THEIRS)


async def test_each_try_has_its_span(traced: Stand, recorder: Recorder) -> None:
    """One that fails says how, and the next one is beside it."""
    traced.cloud.script = refuse(500)
    traced.edge.script = one_after_another(hold(asyncio.Event()), answer_at_once)
    await (await traced.chat(20)).read()
    await over(recorder, "request")
    assert recorder.named("prefill").why == "failed"
    decodes = [span for span in recorder.spans if span.name == "decode"]
    assert [bool(span.attributes["transfer_id"]) for span in decodes] == [True, False]
    assert all(span.is_over for span in recorder.spans)


@pytest.mark.parametrize(("script", "why"), [(refuse(400), "refused"), (break_off, "broke_off")])
async def test_answer_that_fails_is_an_error(traced: Stand, recorder: Recorder, script: Script, why: str) -> None:
    """Also where the client has it: a refusal that is passed on, a stream that breaks off after its first output."""
    traced.edge.script = script
    async with await traced.chat(1, stream=True) as answer:
        await answer.read()
    await over(recorder, "request")
    assert recorder.named("decode").why == why


async def test_stream_that_ends_with_an_error_is_one(traced: Stand, recorder: Recorder) -> None:
    """The engine tells of it after its first output."""
    goes_on = asyncio.Event()
    traced.edge.script = pause_after_first(goes_on, [FAILURE])
    async with await traced.chat(1, stream=True) as answer:
        await answer.content.readany()
        goes_on.set()
        await answer.read()
    await over(recorder, "request")
    decode = recorder.named("decode")
    assert (decode.why, decode.is_over) == ("failed", True)


async def test_stalled_try_is_an_error(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The decode engine that waited for its cache in vain; its next answer is well."""
    monkeypatch.setattr("prfaas.gateway.deadlines.MAX_REPORT_S", 0.1)
    policy = {"threshold_tokens": 5, "remote_timeout_s": 0.2}
    async with stand(tracer=recorder, policy=policy) as running:
        running.cloud.script = hold(asyncio.Event())
        running.edge.script = hold_remote_answer_local
        await (await running.chat(20)).read()
        await over(recorder, "request")
    assert [span.why for span in recorder.spans if span.name == "decode"] == ["stalled", ""]


async def test_late_try_is_an_error(recorder: Recorder) -> None:
    """The engine that was silent, not the one that answered in its place."""
    async with wide(tracer=recorder) as running:
        predict(running, 0.001)
        decode(await impatient(running), one_after_another(hold(asyncio.Event()), answer_at_once))
        async with await running.chat(2, stream=True) as answer:
            await answer.read()
        await over(recorder, "request")
    assert [span.why for span in recorder.spans if span.name == "decode"] == ["late", ""]


async def test_request_that_waits_has_a_turn(recorder: Recorder) -> None:
    """Only that one: a request that goes straight on has none."""
    go_on = asyncio.Event()
    async with stand(tracer=recorder, access={"max_running": 1}) as running:
        running.edge.script = hold(go_on)
        first = asyncio.create_task(running.chat(1))
        await running.edge.call(0)
        second = asyncio.create_task(running.chat(1))
        await eventually(lambda: any(span.name == "turn" for span in recorder.spans))
        assert not recorder.named("turn").is_over
        go_on.set()
        for asked in (first, second):
            assert (await asked).status == 200
        assert recorder.named("turn").is_over


@pytest.mark.parametrize(
    ("body", "status"), [(b'{"model": "tiny", "messages"', 400), (b'{"model": "other", "messages": [1]}', 404)]
)
async def test_refused_request_ends_its_span(traced: Stand, recorder: Recorder, body: bytes, status: int) -> None:
    """With the status; it is no error of ours."""
    async with traced.client.post(f"{traced.url}/v1/chat/completions", data=body) as answer:
        assert answer.status == status
    request = recorder.named("request")
    assert (request.is_over, request.why) == (True, "")
    assert (request.attributes["outcome"], request.attributes["status"]) == ("rejected", status)


async def test_placement_that_fails_ends_its_span(
    traced: Stand, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the trace would have a hole where the request ended."""
    monkeypatch.setattr(traced.services.prefixes, "of", AsyncMock(side_effect=LookupError))
    async with await traced.chat(1) as answer:
        assert answer.status == 500
    placing = recorder.named("place")
    assert (placing.is_over, placing.why) == (True, "LookupError")


async def test_failed_request_is_an_error(traced: Stand, recorder: Recorder) -> None:
    """So that it is found among the others."""
    traced.edge.script = refuse(500)
    assert (await traced.chat(1)).status == 502
    await over(recorder, "request")
    assert recorder.named("request").why == "engine edge-0 answers 500"
    assert recorder.named("decode").why == "failed"


async def test_figures_that_fail_cost_neither_span_nor_alarm(
    traced: Stand, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug in the arithmetic of stages leaves the log line, the span and what is counted of transfers."""
    caplog.set_level("INFO", logger="prfaas")
    monkeypatch.setattr(traced.services.metrics.stages, "count", Mock(side_effect=ArithmeticError))
    traced.reports.default = USED
    async with await traced.chat(20, stream=True) as answer:
        await answer.read()
    await over(recorder, "request")
    assert recorder.named("request").attributes["outcome"] == "remote"
    assert any(getattr(record, "event", "") == "request ended" for record in caplog.records)
    assert traced.services.metrics.registry.get_sample_value("prfaas_remote_tokens_total") == USED.tokens


async def test_client_that_leaves_ends_all_spans(traced: Stand, recorder: Recorder) -> None:
    """Also those of engines that have not answered."""
    traced.edge.script = traced.cloud.script = hold(asyncio.Event())
    asked = asyncio.create_task(traced.chat(20))
    await traced.edge.call(0)
    await traced.cloud.call(0)
    asked.cancel()
    await over(recorder, "request", "decode", "prefill", "first token")
    assert recorder.named("request").attributes["outcome"] == "cancelled"


async def test_nothing_is_passed_on_where_nothing_is_traced() -> None:
    """Not even the client's own trace: whether engines trace is the operator's choice."""
    async with stand() as running:
        body = {"model": "tiny", "messages": [{"role": "user", "content": "word " * 20}]}
        url = f"{running.url}/v1/chat/completions"
        async with running.client.post(url, json=body, headers={"traceparent": THEIRS}) as answer:
            assert answer.status == 200
        for engine in (running.edge, running.cloud):
            call = await engine.call(0)
            assert "traceparent" not in call.headers
            assert "traceparent" not in call.params["prfaas"]
