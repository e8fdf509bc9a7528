"""Which engines a request is tried on when one fails, over real sockets, and that the client sees one whole answer."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from prfaas.clock import ManualClock
from prfaas.fleet.breaker import State
from prfaas.fleet.breakers import Breakers
from prfaas.types import TransferReport
from tests.gateway.fakes import eventually
from tests.gateway.stub_engine import (
    EVENTS,
    Script,
    answer_at_once,
    break_off,
    die,
    fail_in_the_stream,
    hold,
    hold_remote_answer_local,
    once,
    one_after_another,
    pause_after_first,
    refuse,
)
from tests.gateway.wide import Wide, wide

NEVER = asyncio.Event
USED = TransferReport("any", ok=True, tokens=9, cache_bytes=1000)
DECLINED = TransferReport("any", ok=False, reason="no free blocks")
LOST = TransferReport("any", ok=False, reason="not complete within its time")
WHOLE = b"".join(EVENTS)


def decode(running: Wide, script: Script) -> None:
    """One script for the decode engines together, whichever is asked."""
    running.engines["edge-0"].script = running.engines["edge-1"].script = script


def decode_calls(running: Wide) -> int:
    return len(running.engines["edge-0"].calls) + len(running.engines["edge-1"].calls)


async def asked(running: Wide, count: int) -> None:
    """Wait until the decode engines have been asked so often."""
    await eventually(lambda: decode_calls(running) >= count)


@pytest.mark.parametrize(
    ("script", "reason", "is_blamed"),
    [
        (refuse(503), "full", False),
        (refuse(429), "full", False),
        (refuse(400), "refused", False),
        (refuse(500), "failed", True),
        (die, "broke_off", True),
    ],
)
async def test_failed_prefill_goes_to_the_other_site(script: Script, reason: str, is_blamed: bool) -> None:
    """Another site prefills, under a new id and secret, after the first decode request is closed; the record has both
    tries, and only an engine that failed by itself is blamed."""
    async with wide() as running:
        elsewhere = [running.engines["cloud-0"], running.engines["moon-0"]]
        failing = once(lambda: asked(running, 1), script)
        elsewhere[0].script = elsewhere[1].script = one_after_another(failing, answer_at_once)
        decode(running, one_after_another(hold(NEVER()), answer_at_once))
        async with await running.chat(10, stream=True) as answer:
            assert await answer.read() == WHOLE
            headers = answer.headers
        [bad], [good] = (engine.calls for engine in elsewhere)
        first, second = (bad, good) if headers["x-prfaas-engine"] == "moon-0" else (good, bad)
        keys = [call.params["prfaas"]["transfer_id"] for call in (first, second)]
        assert len(set(keys)) == 2
        assert headers["x-prfaas-transfer-id"] == keys[1]
        [edge] = [engine for name, engine in running.engines.items() if name.startswith("edge") and engine.calls]
        await edge.calls[0].is_aborted.wait()
        assert [call.params["prfaas"]["transfer_id"] for call in edge.calls] == keys
        assert edge.calls[0].params["prfaas"]["secret"] != edge.calls[1].params["prfaas"]["secret"]
        decision = await running.ended()
        assert [(each.stage, each.outcome) for each in decision.tries] == [("prefill", reason), ("decode", "answered")]
        assert running.value("prfaas_faults_total", stage="prefill", reason=reason) == 1
        failures = running.services.fleet.breakers.of(decision.tries[0].prefill or "").failures
        assert failures == is_blamed


async def test_after_two_sites_the_decode_engine_does_it_itself() -> None:
    """Prefill is given up after two engines elsewhere; the same decode engine recomputes, which is counted."""
    async with wide() as running:
        running.engines["cloud-0"].script = running.engines["moon-0"].script = die
        decode(running, hold_remote_answer_local)
        async with await running.chat(10) as answer:
            assert answer.status == 200
            assert answer.headers["x-prfaas-outcome"] == "recomputed"
        decision = await running.ended()
        assert [each.prefill for each in decision.tries][2] is None
        assert len({each.decode for each in decision.tries}) == 1
        assert running.value("prfaas_unplanned_recompute_total") == 1


@pytest.mark.parametrize("script", [die, fail_in_the_stream, refuse(500), refuse(503), refuse(429)])
@pytest.mark.parametrize("words", [2, 10])
async def test_other_local_engine_answers_for_one_that_fails(script: Script, words: int) -> None:
    """A decode engine that fails before its first output costs the request a detour; its prefill is closed."""
    async with wide(without=("moon-0",)) as running:
        cloud = running.engines["cloud-0"]
        cloud.script = hold(NEVER())
        failing = once(lambda: cloud.call(0), script) if words == 10 else script
        decode(running, one_after_another(failing, answer_at_once))
        async with await running.chat(words, stream=True) as answer:
            assert answer.status == 200
            assert await answer.read() == WHOLE
        decision = await running.ended()
        first, last = decision.tries
        assert (first.stage, last.outcome, decision.decode) == ("decode", "answered", last.decode)
        assert first.decode != last.decode
        if words == 10:
            await cloud.calls[0].is_aborted.wait()
            assert decision.outcome == "recomputed"


@pytest.mark.parametrize("status", [429, 503])
async def test_full_engines_are_told_to_the_client_and_blamed_for_nothing(status: int) -> None:
    """When all are full the client hears when to try again; health and breakers stay as they were."""
    async with wide() as running:
        decode(running, refuse(status))
        for _ in range(4):
            async with await running.chat(2) as answer:
                assert (answer.status, answer.headers["retry-after"]) == (status, "1")
        assert decode_calls(running) == 8
        for name in ("edge-0", "edge-1"):
            assert running.services.fleet.status(name).is_healthy
            assert running.services.fleet.breakers.of(name).state is State.CLOSED


async def test_prefill_next_door_in_place_of_one_elsewhere_is_a_recompute() -> None:
    """The cache came from an engine of this site, so what was planned for the other site was computed here."""
    async with wide(without=("moon-0",)) as running:
        running.tree["engines"]["edge-1"]["roles"] = ["prefill"]
        running.tree["policy"]["hand_over_min_tokens"] = 1
        async with running.client.post(f"{running.url}/prfaas/reload") as answer:
            assert answer.status == 200
        running.engines["cloud-0"].script = once(lambda: running.engines["edge-0"].call(0), refuse(500))
        has_cache = asyncio.Event()
        running.engines["edge-0"].script = one_after_another(hold(NEVER()), hold(has_cache))
        asking = asyncio.create_task(running.chat(10, stream=True))
        transfer = (await running.engines["edge-1"].call(0)).params["prfaas"]["transfer_id"]
        running.reports.give(replace(USED, transfer_id=transfer))
        has_cache.set()
        async with await asking as answer:
            assert await answer.read() == WHOLE
        decision = await running.ended()
        assert [(each.prefill, each.outcome) for each in decision.tries] == [
            ("cloud-0", "failed"),
            ("edge-1", "answered"),
        ]
        assert (decision.placement, decision.prefill, decision.outcome) == ("remote", "edge-1", "recomputed")
        assert running.value("prfaas_unplanned_recompute_total") == 1
        assert running.value("prfaas_recompute_causes_total", reason="failed") == 1
        assert running.value("prfaas_remote_tokens_total") == 0


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """A policy under which a cache has 0.2 s, and its report 0.1 s more, of a request's minute."""
    monkeypatch.setattr("prfaas.gateway.deadlines.MAX_REPORT_S", 0.1)
    return {"remote_timeout_s": 0.2}


async def test_stalled_transfer_is_recomputed(impatient: dict[str, float]) -> None:
    """Without a cache and without a word of it in its time the decode engine is asked alone; the link is blamed, and no
    other site costs more of the request's."""
    async with wide(policy=impatient) as running:
        for name in ("cloud-0", "moon-0"):
            running.engines[name].script = hold(NEVER())
        decode(running, hold_remote_answer_local)
        async with await running.chat(10) as answer:
            assert answer.status == 200
            assert answer.headers["x-prfaas-outcome"] == "recomputed"
        decision = await running.ended()
        assert [(each.stage, each.outcome) for each in decision.tries] == [
            ("transfer", "stalled"),
            ("decode", "answered"),
        ]
        assert decision.prefill is not None
        link = (running.services.config.engines[decision.prefill].site, "edge")
        assert running.services.fleet.link_breakers.of(link).failures == 1


async def test_word_of_the_cache_ends_the_patience(impatient: dict[str, float]) -> None:
    """A decode engine that has its cache may take its time, longer than a cache may."""
    async with wide(policy=impatient) as running:
        going_on = asyncio.Event()
        decode(running, hold(going_on))
        running.reports.default = USED
        asking = asyncio.create_task(running.chat(10))
        await asked(running, 1)
        await asyncio.sleep(0.6)  # beyond the time of a cache and its report
        going_on.set()
        async with await asking as answer:
            assert answer.status == 200
        assert decode_calls(running) == 1


async def test_breaker_of_an_engine_spares_it_and_tries_it_again() -> None:
    """After three failures in a row an engine gets nothing; when its time is over one request tries it."""
    async with wide(without=("moon-0",)) as running:
        clock = ManualClock()
        running.services.fleet.breakers = Breakers(clock)
        cloud = running.engines["cloud-0"]
        cloud.script = refuse(500)
        running.reports.default = None
        decode(running, hold_remote_answer_local)
        for _ in range(4):
            async with await running.chat(10) as answer:
                assert answer.status == 200
        assert len(cloud.calls) == 3
        assert running.services.fleet.breakers.of("cloud-0").state is State.OPEN
        clock.advance(1)
        cloud.script, running.reports.default = answer_at_once, USED
        decode(running, answer_at_once)
        async with await running.chat(10) as answer:
            assert answer.headers["x-prfaas-outcome"] == "remote"
        assert running.services.fleet.breakers.of("cloud-0").state is State.CLOSED


async def test_used_cache_is_a_prefill_engines_success() -> None:
    """A trial whose cache is used closes the breaker, also when the answer is over before the prefill engine's own."""
    async with wide(without=("moon-0",)) as running:
        clock = ManualClock()
        running.services.fleet.breakers = Breakers(clock)
        for _ in range(3):
            running.services.fleet.breakers.blame("cloud-0")
        clock.advance(1)
        running.engines["cloud-0"].script, running.reports.default = hold(NEVER()), USED
        async with await running.chat(10) as answer:
            assert answer.headers["x-prfaas-outcome"] == "remote"
        assert running.services.fleet.breakers.of("cloud-0").state is State.CLOSED


def half_open(running: Wide) -> tuple[Callable[[], bool], Callable[[], bool]]:
    """The breakers of the prefill engine and of its link wait for a trial. Returns whether they would take one."""
    fleet, clock, link = running.services.fleet, ManualClock(), ("cloud", "edge")
    fleet.breakers, fleet.link_breakers = Breakers(clock), Breakers(clock)
    for _ in range(3):
        fleet.breakers.blame("cloud-0")
        fleet.link_breakers.blame(link)
    clock.advance(1)
    return lambda: fleet.breakers.of("cloud-0").admits, lambda: fleet.link_breakers.of(link).admits


async def test_declined_trial_makes_room_for_another() -> None:
    """A trial that the decode engine did without has told nothing: another may begin while the answer goes on."""
    async with wide(without=("edge-1", "moon-0")) as running:
        engine_admits, link_admits = half_open(running)
        going_on, has_declined = asyncio.Event(), asyncio.Event()
        running.engines["cloud-0"].script = hold(NEVER())
        running.engines["edge-0"].script = hold(has_declined, pause_after_first(going_on))
        asking = asyncio.create_task(running.chat(10, stream=True))
        transfer = (await running.engines["cloud-0"].call(0)).params["prfaas"]["transfer_id"]
        assert (engine_admits(), link_admits()) == (False, False)
        running.reports.give(replace(DECLINED, transfer_id=transfer))
        await eventually(lambda: engine_admits() and link_admits())
        has_declined.set()
        async with await asking as answer:
            assert await answer.content.readany() == EVENTS[0]
            assert (engine_admits(), link_admits()) == (True, True)
            going_on.set()
            assert await answer.read() == b"".join(EVENTS[1:])


async def test_trial_without_a_word_makes_room_for_another() -> None:
    """The same where nobody tells what became of the transfer, and where the engine turns out to be full after all."""
    async with wide(without=("edge-1", "moon-0")) as running:
        engine_admits, link_admits = half_open(running)
        going_on, is_full = asyncio.Event(), asyncio.Event()
        running.engines["cloud-0"].script = hold(is_full, refuse(429))
        running.engines["edge-0"].script = pause_after_first(going_on)
        async with await running.chat(10, stream=True) as answer:
            assert await answer.content.readany() == EVENTS[0]
            transfer = (await running.engines["cloud-0"].call(0)).params["prfaas"]["transfer_id"]
            assert (engine_admits(), link_admits()) == (False, False)
            running.reports.refuse(transfer)
            await eventually(link_admits)
            is_full.set()
            await eventually(engine_admits)
            going_on.set()
            assert await answer.read() == b"".join(EVENTS[1:])


async def test_breaker_of_a_link_sends_prompts_over_the_other() -> None:
    """A link on which transfers are lost is left alone, its prefill engine with it, though that engine is well."""
    async with wide() as running:
        running.services.fleet.link_breakers = Breakers(ManualClock())
        for _ in range(3):
            running.services.fleet.link_breakers.blame(("cloud", "edge"))
        running.reports.default = USED
        for _ in range(4):
            async with await running.chat(10) as answer:
                assert answer.headers["x-prfaas-engine"] == "moon-0"
        running.reports.default = LOST
        placements = []
        for _ in range(4):
            async with await running.chat(10) as answer:
                assert answer.status == 200
                placements.append(answer.headers["x-prfaas-placement"])
        assert placements == ["remote"] * 3 + ["local"]
        assert running.value("prfaas_faults_total", stage="transfer", reason="transfer") == 3


async def test_last_engine_is_tried_in_spite_of_its_breaker() -> None:
    """A breaker never makes the error that it is there to avoid."""
    async with wide(without=("edge-1",)) as running:
        running.services.fleet.breakers = Breakers(ManualClock())
        for _ in range(3):
            running.services.fleet.breakers.blame("edge-0")
        async with await running.chat(2) as answer:
            assert answer.status == 200
        assert running.services.fleet.breakers.of("edge-0").state is State.CLOSED


async def test_stream_that_breaks_off_counts_and_is_not_sent_again() -> None:
    """After the first output nothing is tried; the engine's breaker hears of it."""
    async with wide() as running:
        decode(running, break_off)
        async with await running.chat(2, stream=True) as answer:
            text = await answer.read()
        assert text.startswith(EVENTS[0] + EVENTS[1] + b'data: {"error":{')
        decision = await running.ended()
        assert decode_calls(running) == 1
        assert running.services.fleet.breakers.of(decision.decode).failures == 1
        assert running.value("prfaas_faults_total", stage="stream", reason="broke_off") == 1


async def test_client_that_leaves_blames_nobody() -> None:
    """Requests that the client gives up count against no engine and keep no trial."""
    async with wide() as running:
        decode(running, hold(NEVER()))
        for engine in ("cloud-0", "moon-0"):
            running.engines[engine].script = hold(NEVER())
        for number in range(4):
            asking = asyncio.create_task(running.chat(10))
            await asked(running, number + 1)
            asking.cancel()
            assert (await running.ended()).outcome == "cancelled"
        fleet = running.services.fleet
        assert [fleet.breakers.of(name).failures for name in fleet.names] == [0] * 4
