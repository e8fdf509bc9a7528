"""Whatever the engines do, a client sees one answer, and no token twice."""

import asyncio
import contextlib
import json

import aiohttp
import pytest
from aiohttp import web
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from prfaas.gateway.ways import MAX_TRIES
from prfaas.types import TransferReport
from tests.exact import assert_equal
from tests.gateway.stub_engine import (
    Call,
    Script,
    answer_at_once,
    break_off,
    die,
    fail_in_the_stream,
    one_after_another,
    refuse,
    stall_after_first,
)
from tests.gateway.wide import SITES, Wide, wide


async def late(call: Call, request: web.Request) -> web.StreamResponse:
    """Answer after others have had the time to fail."""
    await asyncio.sleep(0.02)
    return await answer_at_once(call, request)


async def die_late(call: Call, request: web.Request) -> web.StreamResponse:
    """Die in the middle of the work."""
    await asyncio.sleep(0.01)
    return await die(call, request)


async def be_silent(call: Call, request: web.Request) -> web.StreamResponse:
    """Take the request and never answer."""
    await asyncio.Event().wait()
    return await answer_at_once(call, request)


SCRIPTS: dict[str, Script] = {
    "answers": answer_at_once,
    "answers late": late,
    "says 400": refuse(400),
    "is full": refuse(503),
    "fails": refuse(500),
    "dies": die,
    "dies late": die_late,
    "fails in the stream": fail_in_the_stream,
    "breaks off": break_off,
    "stalls": stall_after_first,
    "is silent": be_silent,
}
REPORTS = {
    "used": TransferReport("any", ok=True, tokens=9),
    "lost": TransferReport("any", ok=False, reason="not complete within its time"),
    "none": None,
}
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
"""A failure is told as it was found: with real servers in each example, looking for a smaller one takes minutes."""
DEADLINE_S = 1.0
"""What engines that say nothing cost each example. On a machine that stands still it may end any of them."""
TOKENS = [f"tok{index}" for index in range(3)]
BEHAVIOUR = st.lists(st.sampled_from(sorted(SCRIPTS)), min_size=1, max_size=3)


@pytest.mark.slow
@pytest.mark.timeout(600)
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(
    behaviours=st.fixed_dictionaries(dict.fromkeys(SITES, BEHAVIOUR)),
    report=st.sampled_from(sorted(REPORTS)),
    words=st.sampled_from([2, 10]),
    is_stream=st.booleans(),
)
def test_one_answer_and_no_token_twice(
    behaviours: dict[str, list[str]], report: str, words: int, is_stream: bool
) -> None:
    """A whole answer, or a beginning of it with one error at its end, or one error: never two answers, never a token
    twice, never more tries than the bound, and nothing is left behind."""
    asyncio.run(ask_once(behaviours, report, words, is_stream))


async def ask_once(behaviours: dict[str, list[str]], report: str, words: int, is_stream: bool) -> None:
    async with wide(request_timeout_s=DEADLINE_S) as running:
        for name, names in behaviours.items():
            running.engines[name].script = one_after_another(*(SCRIPTS[each] for each in names))
        running.reports.default = REPORTS[report]
        answer = await running.chat(words, stream=is_stream)
        text = b""
        with contextlib.suppress(aiohttp.ClientPayloadError):  # an answer of known length that is cut short
            text = await answer.read()
        check_answer(answer.status, text, is_stream=answer.content_type == "text/event-stream")
        decision = await running.ended()
        assert len(decision.tries) <= MAX_TRIES
        assert [each.outcome for each in decision.tries].count("answered") <= 1
        check_requests(running, is_late=answer.status == 504)
        assert [each.inflight for each in running.services.fleet.statuses()] == [0] * len(SITES)


def check_answer(status: int, text: bytes, *, is_stream: bool) -> None:
    if status != 200:
        assert json.loads(text)["error"]
        return
    if not is_stream:
        assert_equal(json.loads(text), {"choices": [{"text": "".join(TOKENS)}]})
        return
    events = [event.removeprefix(b"data: ") for event in text.split(b"\n\n") if event]
    *before, last = events
    tokens = [json.loads(event)["choices"][0]["text"] for event in before]
    if last == b"[DONE]":
        assert_equal(tokens, TOKENS)
    else:
        assert json.loads(last)["error"]
        assert_equal(tokens, TOKENS[: len(tokens)])


def check_requests(running: Wide, *, is_late: bool) -> None:
    """The engines were never asked twice for one transfer, and by one request no oftener than the bound; at least once,
    unless its time was over before."""
    decodes = [call for name in ("edge-0", "edge-1") for call in running.engines[name].calls]
    assert decodes or is_late
    assert len(decodes) <= MAX_TRIES
    ids = [call.params["prfaas"]["transfer_id"] for call in decodes if "prfaas" in call.params]
    assert_equal(sorted(ids), sorted(set(ids)))
