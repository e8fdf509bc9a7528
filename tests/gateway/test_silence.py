"""A decode engine that has all it needs and does not begin to answer."""

import asyncio

import pytest

from prfaas.gateway.deadlines import MISJUDGED, allowed_silence_s
from prfaas.routing.figures import PrefillRate
from prfaas.types import TransferReport
from tests.gateway.fakes import eventually
from tests.gateway.stub_engine import answer_at_once, hold, one_after_another
from tests.gateway.test_fallback import LOST, NEVER, USED, WHOLE, asked, decode, decode_calls
from tests.gateway.wide import Wide, wide

PATIENCE_S = 1.0
"""Long enough for a request to reach its engine, also on a busy machine."""
EDGES = ("edge-0", "edge-1")


async def impatient(running: Wide, patience_s: float = PATIENCE_S) -> Wide:
    running.tree["policy"]["first_output_patience_s"] = patience_s
    async with running.client.post(f"{running.url}/prfaas/reload") as answer:
        assert answer.status == 200
    return running


def predict(running: Wide, seconds: float) -> None:
    for name in EDGES:
        running.services.view.set_rate(name, PrefillRate(seconds, 0.0))


@pytest.mark.parametrize("words", [10, 2])
async def test_another_engine_answers_for_a_silent_one(words: int) -> None:
    """With its cache from elsewhere, or after its own prefill: it is closed first, blamed, and out until a probe; the
    client sees one whole answer."""
    async with wide() as running:
        predict(running, 0.001)
        decode(await impatient(running), one_after_another(hold(NEVER()), answer_at_once))
        running.reports.default = USED
        async with await running.chat(words, stream=True) as answer:
            assert await answer.read() == WHOLE
        decision = await running.ended()
        assert [(each.stage, each.outcome) for each in decision.tries] == [("decode", "late"), ("decode", "answered")]
        silent, good = (each.decode for each in decision.tries)
        assert {silent, good} == set(EDGES)
        assert decision.tries[1].prefill is None
        await running.engines[silent].calls[0].is_aborted.wait()
        assert [len(running.engines[name].calls) for name in (silent, good)] == [1, 1]
        assert running.services.fleet.breakers.of(silent).failures == 1
        assert "silent" in running.services.fleet.status(silent).problem
        assert running.value("prfaas_faults_total", stage="decode", reason="late") == 1
        assert decision.outcome == ("recomputed" if words == 10 else "local")


@pytest.mark.parametrize(
    ("words", "is_stream", "predicted_s", "report", "without"),
    [
        (10, False, 0.001, USED, ()),
        (10, True, 0.001, LOST, ()),
        (10, True, 0.001, USED, ("edge-1",)),
        (2, True, None, None, ()),
        (2, False, 0.001, None, ()),
        (2, True, 600.0, None, ()),
    ],
    ids=["whole answer", "recomputes", "no other", "unknown speed", "local whole answer", "still prefills"],
)
async def test_silence_that_proves_nothing_is_waited_out(
    words: int, is_stream: bool, predicted_s: float | None, report: TransferReport | None, without: tuple[str, ...]
) -> None:
    """An answer that comes as a whole, one that is computed anew, one that nobody else could give, or a prefill of
    which nobody knows how long it takes, or that takes long: many times the patience later it still is awaited."""
    going_on = asyncio.Event()
    async with wide(without=without) as running:
        if predicted_s is not None and not without:
            predict(running, predicted_s)
        decode(await impatient(running, 0.001), hold(going_on))
        running.reports.default = report
        asking = asyncio.create_task(running.chat(words, stream=is_stream))
        await asked(running, 1)
        await asyncio.sleep(0.2)
        assert decode_calls(running) == 1
        going_on.set()
        async with await asking as answer:
            assert answer.status == 200
        assert len((await running.ended()).tries) == 1


async def test_patience_ends_with_the_deadline() -> None:
    """A patience beyond what is left of the request changes nothing: it times out."""
    async with wide(request_timeout_s=1) as running:
        decode(await impatient(running, 3_000), hold(NEVER()))
        running.reports.default = USED
        async with await running.chat(10, stream=True) as answer:
            assert answer.status == 504
        await eventually(
            lambda: all(call.is_aborted.is_set() for name in EDGES for call in running.engines[name].calls)
        )


def test_allowed_silence() -> None:
    """The patience, or many times what was predicted; an own prefill has its time before that, if that is known."""
    assert allowed_silence_s(30, None, has_cache=True) == 30
    assert allowed_silence_s(30, 1.0, has_cache=True) == 30
    assert allowed_silence_s(30, 100.0, has_cache=True) == MISJUDGED * 100
    assert allowed_silence_s(30, None, has_cache=False) is None
    assert allowed_silence_s(30, 1.0, has_cache=False) == 31
    assert allowed_silence_s(30, 100.0, has_cache=False) == 100 + MISJUDGED * 100
