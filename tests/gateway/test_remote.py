import asyncio

import pytest

from prfaas.types import TransferReport
from tests.gateway.fakes import CLOUD_KV, EDGE_KV, Stand, eventually, stand
from tests.gateway.stub_engine import (
    EVENTS,
    answer_at_once,
    break_off,
    die,
    hold,
    hold_remote_answer_local,
    once,
    one_after_another,
    pause_after_first,
    refuse,
    stall_after_first,
)

USED = TransferReport("transfer-2", ok=True, tokens=9, cache_bytes=1000, early_bytes=900, open_s=0.1)
LOST = TransferReport("transfer-2", ok=False, reason="checksum")
NEVER = asyncio.Event


async def test_long_prompt_goes_to_both_engines_at_once(running: Stand) -> None:
    """The prompt goes to the prefill engine and the request to the decode engine, neither waiting for the other."""
    both = asyncio.Event()
    running.edge.script = running.cloud.script = hold(both)
    asking = asyncio.create_task(running.chat(10, cache_salt="tenant", stop=["x"], max_tokens=7))
    prefill, decode = await running.cloud.call(0), await running.edge.call(0)
    shared = {"transfer_id": "transfer-2", "secret": "secret-3", "timeout_s": 30}
    assert prefill.path == "/v1/completions"
    assert prefill.body == {
        "model": "tiny",
        "prompt": [4] * 10,
        "max_tokens": 1,
        "temperature": 0,
        "stream": False,
        "cache_salt": "tenant",
        "kv_transfer_params": {"prfaas": {"role": "prefill", **shared}},
    }
    assert decode.params == {
        "prompt_token_ids": [4] * 10,
        "prfaas": {"role": "decode", "remote": CLOUD_KV, **shared},
    }
    assert decode.body["max_tokens"] == 7
    running.reports.give(USED)
    both.set()
    async with await asking as answer:
        assert answer.status == 200


async def test_headers_carry_the_evidence(running: Stand) -> None:
    """A report that is there before the first output reaches the client in the headers."""
    running.reports.default = USED
    async with await running.chat(10, stream=True) as answer:
        assert await answer.read() == b"".join(EVENTS)
        evidence = {name: value for name, value in answer.headers.items() if name.startswith("x-prfaas")}
    assert evidence == {
        "x-prfaas-placement": "remote",
        "x-prfaas-site": "cloud",
        "x-prfaas-engine": "cloud-0",
        "x-prfaas-reason": "10 prompt tokens are above the threshold of 5",
        "x-prfaas-transfer-id": "transfer-2",
        "x-prfaas-prompt-tokens": "10",
        "x-prfaas-remote-tokens": "9",
        "x-prfaas-cache-bytes": "1000",
        "x-prfaas-early-bytes": "900",
        "x-prfaas-outcome": "remote",
    }
    assert running.reports.waits == [(EDGE_KV, "transfer-2", "secret-3")]
    assert running.reports.timeouts_s[0] > running.services.config.policy.remote_timeout_s


async def test_late_report_does_not_delay_the_output(running: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first output leaves without the report; the report is recorded when it comes."""
    monkeypatch.setattr("prfaas.gateway.relay.LATE_REPORT_S", 60.0)
    async with await running.chat(10, stream=True) as answer:
        assert await answer.read() == b"".join(EVENTS)
        assert "x-prfaas-outcome" not in answer.headers
    await eventually(lambda: running.services.fleet.status("edge-0").inflight == 0)
    await asyncio.sleep(0.01)  # time in which a gateway that does not wait would close its record
    running.reports.give(USED)
    decision = await running.ended()
    assert (decision.outcome, decision.report) == ("remote", USED)


async def test_unusable_cache_is_told_and_counted(running: Stand) -> None:
    """A load that the decode engine recomputed is an alarm, and none of its bytes count as used."""
    running.reports.default = LOST
    async with await running.chat(10) as answer:
        assert answer.headers["x-prfaas-outcome"] == "recomputed"
    await running.ended()
    metrics = running.services.metrics.exposition().decode()
    assert "prfaas_unplanned_recompute_total 1.0" in metrics
    assert "prfaas_remote_tokens_total 0.0" in metrics


async def test_used_cache_is_counted(running: Stand) -> None:
    """Metrics count the tokens and bytes that were used."""
    running.reports.default = USED
    await running.chat(10)
    await running.ended()
    metrics = running.services.metrics.exposition().decode()
    assert "prfaas_remote_tokens_total 9.0" in metrics
    assert "prfaas_remote_cache_bytes_total 1000.0" in metrics
    assert 'prfaas_requests_total{outcome="remote",placement="remote",status="200"} 1.0' in metrics
    assert "prfaas_unplanned_recompute_total 0.0" in metrics


async def test_missing_report_is_unknown(running: Stand) -> None:
    """Without the decode side's word nothing is claimed."""
    running.reports.refuse("transfer-2")
    await running.chat(10)
    assert (await running.ended()).outcome == "unknown"
    assert "prfaas_unknown_outcome_total 1.0" in running.services.metrics.exposition().decode()


async def test_failure_after_the_answer_leaves_it_a_success(running: Stand) -> None:
    """Once an answer is complete, not even a bug in waiting for its report makes it an error or sends another body."""
    async with await running.chat(10, stream=True) as answer:
        assert await answer.read() == b"".join(EVENTS)
    running.reports.fail("transfer-2", TimeoutError())
    assert (await running.ended()).outcome == "unknown"


@pytest.mark.parametrize("is_begun", [False, True])
async def test_failed_load_stops_the_prefill(running: Stand, is_begun: bool) -> None:
    """A decode engine that recomputes needs no prefill: it is aborted at once, and the answer goes on undisturbed."""
    going_on = asyncio.Event()
    running.cloud.script = hold(NEVER())
    running.edge.script = pause_after_first(going_on) if is_begun else hold(going_on)
    asking = asyncio.create_task(running.chat(10, stream=True))
    prefill, _ = await running.cloud.call(0), await running.edge.call(0)
    if is_begun:
        await (await asyncio.shield(asking)).content.readany()
    running.reports.give(LOST)
    await prefill.is_aborted.wait()
    going_on.set()
    async with await asking as answer:
        assert (await answer.read()).endswith(EVENTS[-1])
    assert (await running.ended()).outcome == "recomputed"
    assert len(running.edge.calls) == 1


@pytest.mark.parametrize("is_stream", [False, True])
async def test_refused_prefill_is_recomputed_locally(running: Stand, is_stream: bool) -> None:
    """When the prefill engine answers with an error, the decode request is closed and sent again as a local one."""
    running.cloud.script = once(lambda: running.edge.call(0), refuse(400))
    running.edge.script = one_after_another(hold(NEVER()), answer_at_once)
    async with await running.chat(10, stream=is_stream) as answer:
        assert answer.status == 200
        assert answer.headers["x-prfaas-placement"] == "remote"
        assert answer.headers["x-prfaas-outcome"] == "recomputed"
        assert "engine cloud-0 answers 400" in answer.headers["x-prfaas-reason"]
        expected = b"".join(EVENTS) if is_stream else b'{"choices": [{"text": "tok0tok1tok2"}]}'
        assert await answer.read() == expected
    first, second = running.edge.calls
    await first.is_aborted.wait()
    assert second.params == {"prompt_token_ids": [4] * 10}
    assert (await running.ended()).outcome == "recomputed"


async def test_unreachable_prefill_engine_is_recomputed_and_avoided() -> None:
    """A prefill engine that is gone costs one request a detour and gets no further ones."""
    async with stand(probe_interval_s=600) as running:
        await running.cloud.stop()
        running.edge.script = hold_remote_answer_local
        async with await running.chat(10) as answer:
            assert answer.headers["x-prfaas-outcome"] == "recomputed"
            assert answer.headers["x-prfaas-reason"].endswith("; engine cloud-0 cannot be reached")
        async with await running.chat(10) as answer:
            assert answer.headers["x-prfaas-placement"] == "local"
            assert answer.headers["x-prfaas-reason"] == "no healthy prefill engine in a linked site"


async def test_prefill_that_dies_late_is_recomputed(running: Stand) -> None:
    """A prefill engine that dies in mid-prefill has the same end."""
    dying = asyncio.Event()
    running.cloud.script = hold(dying, die)
    running.edge.script = one_after_another(hold(NEVER()), answer_at_once)
    asking = asyncio.create_task(running.chat(10, stream=True))
    await running.edge.call(0)
    dying.set()
    async with await asking as answer:
        assert await answer.read() == b"".join(EVENTS)
    assert len(running.edge.calls) == 2


async def test_prefill_failure_after_the_first_output_changes_nothing() -> None:
    """Once output has left, the request is never sent again."""
    dying, going_on = asyncio.Event(), asyncio.Event()
    async with stand(probe_interval_s=600) as running:
        running.cloud.script = hold(dying, die)
        running.edge.script = pause_after_first(going_on)
        running.reports.default = USED
        async with await running.chat(10, stream=True) as answer:
            assert await answer.content.readany() == EVENTS[0]
            dying.set()
            await eventually(lambda: not running.services.fleet.status("cloud-0").is_healthy)
            going_on.set()
            assert await answer.read() == b"".join(EVENTS[1:])
        assert len(running.edge.calls) == 1


async def test_prefill_failure_after_the_load_changes_nothing() -> None:
    """A decode engine that has the cache is left alone, though it has not answered yet."""
    dying, going_on = asyncio.Event(), asyncio.Event()
    async with stand(probe_interval_s=600) as running:
        running.cloud.script, running.edge.script = hold(dying, die), hold(going_on)
        asking = asyncio.create_task(running.chat(10))
        await running.edge.call(0)
        running.reports.give(USED)
        dying.set()
        await eventually(lambda: not running.services.fleet.status("cloud-0").is_healthy)
        going_on.set()
        async with await asking as answer:
            assert answer.headers["x-prfaas-outcome"] == "remote"
        assert len(running.edge.calls) == 1


async def test_decode_that_ends_early_closes_the_prefill(running: Stand) -> None:
    """When the decode engine refuses the request, the prefill engine sees its request closed."""
    running.cloud.script = hold(NEVER())
    running.edge.script = once(lambda: running.cloud.call(0), refuse(400))
    async with await running.chat(10) as answer:
        assert answer.status == 400
    await running.cloud.calls[0].is_aborted.wait()
    assert (await running.ended()).outcome == "error"


@pytest.mark.parametrize("is_begun", [False, True])
async def test_client_that_leaves_aborts_both_engines(running: Stand, is_begun: bool) -> None:
    """Both engines see their requests closed, before as after the first output."""
    running.cloud.script = hold(NEVER())
    running.edge.script = stall_after_first if is_begun else hold(NEVER())
    asking = asyncio.create_task(running.chat(10, stream=True))
    prefill, decode = await running.cloud.call(0), await running.edge.call(0)
    if is_begun:
        answer = await asking
        await answer.content.readany()
        answer.close()
    else:
        asking.cancel()
    await prefill.is_aborted.wait()
    await decode.is_aborted.wait()
    assert (await running.ended()).outcome == "cancelled"
    assert [status.inflight for status in running.services.fleet.statuses()] == [0, 0]


async def test_broken_stream_ends_with_an_error_event(running: Stand) -> None:
    """A stream that breaks off keeps its whole events, loses the half one, and ends with an error; no second try."""
    running.edge.script = break_off
    running.reports.default = USED
    async with await running.chat(10, stream=True) as answer:
        text = await answer.read()
    assert text.startswith(EVENTS[0] + EVENTS[1] + b'data: {"error":{')
    assert text.endswith(b'"code":"engine_unavailable"}}\n\n')
    assert len(running.edge.calls) == 1


@pytest.mark.parametrize("is_stream", [False, True])
async def test_dead_decode_engine_is_a_503(is_stream: bool) -> None:
    """A decode engine that dies before any output gives OpenAI's error shape, closes the prefill and is noted."""
    async with stand(probe_interval_s=600) as running:
        running.cloud.script, running.edge.script = hold(NEVER()), once(lambda: running.cloud.call(0), die)
        async with await running.chat(10, stream=is_stream) as answer:
            assert answer.status == 503
            assert (await answer.json())["error"]["code"] == "engine_unavailable"
        await running.cloud.calls[0].is_aborted.wait()
        assert not running.services.fleet.status("edge-0").is_healthy


async def test_deadline_of_the_request() -> None:
    """A request that takes longer than allowed is answered 504 and closed at both engines."""
    async with stand(request_timeout_s=2) as running:
        running.cloud.script = running.edge.script = hold(NEVER())
        async with await running.chat(10) as answer:
            assert answer.status == 504
        for engine in (running.edge, running.cloud):
            await (await engine.call(0)).is_aborted.wait()


async def test_secrets_stay_inside(running: Stand, caplog: pytest.LogCaptureFixture) -> None:
    """Neither headers, the ring, the metrics nor the log hold a secret or the prompt."""
    caplog.set_level("DEBUG", logger="prfaas")
    running.reports.default = USED
    async with await running.chat(10) as answer:
        seen = str(answer.headers)
    await running.ended()
    async with running.client.get(f"{running.url}/prfaas/decisions") as answer:
        seen += await answer.text()
    seen += caplog.text + running.services.metrics.exposition().decode()
    assert "transfer-2" in seen
    assert "secret-" not in seen
    assert "word" not in seen
