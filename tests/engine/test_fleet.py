"""What breaks in a fleet of two local and two remote engines: another way is taken, and each answer is exact.

All tests share one fleet and run in the order of the file: the last ones kill its engines, one after the other.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.engine.fleet import LOCAL, REMOTE, SITES, Fleet, apart, fleet_of
from tests.engine.models import prompt_tokens
from tests.engine.pair import until
from tests.engine.refusals import withdraw
from tests.engine.site import ANSWER_TOKENS
from tests.exact import assert_exact

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

LONG_TOKENS = 8_000
"""Prefilled in more than a second: time to break something in the middle."""
RUNNING_TOKENS = 800
"""Of an answer during which an operator gives a command."""
SWITCH_TIMEOUT_S = 60.0
"""For a breaker that opens for 1 s, 2 s, 4 s ..., and a link that is dialed again every 3 s, on a busy machine."""
CACHE_TIMEOUT_S = 3.0
MORE_TOKENS = 60
"""After the death of an engine: over before the gateway's next look at it, as a rule."""

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Question:
    """A prompt, and what one engine alone says to it; never asked twice under one cache salt, so never cached."""

    prompt: Sequence[int]
    alone: Tokens


@dataclass(frozen=True)
class Questions:
    """By what becomes of them: prefilled in the other site, handed over within the site, broken in the middle, answered
    here for a while."""

    remote: Question
    near: Question
    long: Question
    running: Question


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    async with fleet_of(tmp_path_factory.mktemp("fleet")) as fleet:
        yield fleet


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ask(fleet: Fleet) -> Questions:
    async def clear(length: int, seed: int) -> Question:
        prompt, alone = await fleet.pair.clear_prompt(length, seed, ANSWER_TOKENS)
        return Question(prompt, alone.tokens)

    # Its prompt stays here and runs alone on its engine, so a near-tie in it falls as it does for one engine.
    running = prompt_tokens(100, seed=6)
    alone = await fleet.pair.alone(running, RUNNING_TOKENS)
    return Questions(
        await clear(900, 1), await clear(500, 2), await clear(LONG_TOKENS, 3), Question(running, alone.tokens)
    )


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def leaves_nothing_behind(fleet: Fleet) -> AsyncIterator[None]:
    """After every test the engines that live hold no block, no slot and no transfer."""
    yield
    withdraw(fleet.orders)
    for tap in fleet.taps.values():
        tap.up()
        tap.flow()
    await fleet.pair.until_idle(fleet.alive)


async def answered(fleet: Fleet, question: Question) -> dict[str, Any]:
    """Ask, compare the streamed tokens with those of one engine; the record, with the headers.

    Headers tell the outcome when it is known by the first token; the record, which is complete, always does.
    """
    tokens, headers = await fleet.stream(question.prompt, len(question.alone))
    assert_exact(tokens, question.alone)
    return {**await fleet.decision(headers), "headers": headers}


def tries(decision: dict[str, Any]) -> list[tuple[str, str]]:
    return [(each["stage"], each["outcome"]) for each in decision["tries"]]


async def recomputes(fleet: Fleet) -> float:
    return await fleet.metric("prfaas_unplanned_recompute_total")


async def links_show(fleet: Fleet, engine: str, moved_bytes: float) -> bool:
    """Let the engine compute something, for only then does vLLM take statistics; does it show the bytes?"""
    await fleet.pair.complete(engine, prompt_tokens(20, seed=2), 2)
    return await fleet.pair.metric(engine, "prfaas_link_delivered_bytes_total") == moved_bytes


async def test_engines_show_what_crossed_their_link_on_their_own_metrics(fleet: Fleet, ask: Questions) -> None:
    """After the fleet's first remote prefill both sides show its bytes, as soon as they have computed something."""
    decision = await answered(fleet, ask.remote)
    assert decision["outcome"] == "remote"
    moved_bytes = (await fleet.pair.staging(decision["decode"])).received_bytes
    assert moved_bytes > 0
    for engine in (decision["prefill"], decision["decode"]):
        await until(partial(links_show, fleet, engine, moved_bytes))
        assert await fleet.pair.metric(engine, "prfaas_link_connections") > 0


@pytest.mark.parametrize(("status", "reason"), [(429, "full"), (503, "full"), (400, "refused"), (500, "failed")])
async def test_a_refused_prefill_is_done_by_the_other_site(
    fleet: Fleet, ask: Questions, status: int, reason: str
) -> None:
    """Whichever site is asked first says no, and the other one's cache is used."""
    faults, recomputed = await fleet.metric("prfaas_faults_total", reason=reason), await recomputes(fleet)
    fleet.refuse(REMOTE, status)
    decision = await answered(fleet, ask.remote)
    assert tries(decision) == [("prefill", reason), ("decode", "answered")]
    assert {each["prefill"] for each in decision["tries"]} == set(REMOTE)
    used = decision["tries"][1]["prefill"]
    assert (decision["outcome"], decision["report"]["tokens"]) == ("remote", len(ask.remote.prompt) - 1)
    expected = {"placement": "remote", "engine": used, "site": SITES[used]}
    assert {key: decision["headers"][f"x-prfaas-{key}"] for key in expected} == expected
    assert await fleet.metric("prfaas_faults_total", reason=reason) == faults + 1
    assert await recomputes(fleet) == recomputed


async def test_a_prefill_that_no_site_takes_is_done_here(fleet: Fleet, ask: Questions) -> None:
    """Both are full: the decode engine prefills by itself, which counts as a recompute."""
    recomputed = await recomputes(fleet)
    fleet.refuse(REMOTE, 503, 503)
    decision = await answered(fleet, ask.remote)
    assert tries(decision) == [("prefill", "full"), ("prefill", "full"), ("decode", "answered")]
    assert len({each["decode"] for each in decision["tries"]}) == 1
    # Known from the start, so the client hears it, too.
    assert decision["outcome"] == decision["headers"]["x-prfaas-outcome"] == "recomputed"
    assert await recomputes(fleet) == recomputed + 1


async def test_a_full_decode_engine_is_stood_in_for(fleet: Fleet, ask: Questions) -> None:
    """The other local engine answers; the prefill elsewhere, which nobody waits for, is closed."""
    fleet.refuse(LOCAL, 503)
    decision = await answered(fleet, ask.long)
    assert tries(decision) == [("decode", "full"), ("decode", "answered")]
    assert [each["decode"] for each in decision["tries"]] in [[*LOCAL], [*LOCAL[::-1]]]
    assert decision["decode"] == decision["tries"][1]["decode"]


async def test_a_broken_engine_is_spared_and_tried_again(fleet: Fleet, ask: Questions) -> None:
    """The only site that takes prefills fails until its breaker opens: then it is asked nothing, and prompts stay here.
    A trial that succeeds closes the breaker. Drain and undrain are those of the command line."""
    assert (await fleet.operate("drain", "far-0")).startswith("far-0: drained")

    async def is_spared() -> bool:
        """An order that is left says that no request came."""
        fleet.refuse(REMOTE, 500)
        decision = await answered(fleet, ask.remote)
        return bool(decision["placement"] == "local") and withdraw(fleet.orders) == 1

    recomputed = await recomputes(fleet)
    await until(is_spared, SWITCH_TIMEOUT_S)
    assert await recomputes(fleet) > recomputed
    assert (await fleet.overview())["cloud-0"]["breaker"] != "closed"

    async def is_back() -> bool:
        return bool((await answered(fleet, ask.remote))["outcome"] == "remote")

    await until(is_back, SWITCH_TIMEOUT_S)
    assert (await fleet.overview())["cloud-0"]["breaker"] == "closed"
    assert await fleet.operate("undrain", "far-0") == "far-0: healthy"


async def test_a_link_that_is_down_is_spared_and_tried_again(fleet: Fleet, ask: Questions) -> None:
    """Its site is well, yet no cache comes from there: the decode engines recompute until its breaker opens.
    Then the link is spared, and used again once it is up."""
    fleet.taps["cloud-0"].down()
    recomputed, lost = await recomputes(fleet), partial(fleet.metric, "prfaas_faults_total", stage="transfer")
    faults = await lost()

    async def is_open() -> bool:
        await answered(fleet, ask.remote)
        return bool((await fleet.overview())["cloud"]["breaker"] == "open")

    await until(is_open, SWITCH_TIMEOUT_S)
    assert await lost() >= faults + 3
    assert await recomputes(fleet) >= recomputed + 3
    told = await fleet.overview()
    assert told["cloud-0"]["state"] == "healthy"
    assert told["cloud-0"]["breaker"] == told["far"]["breaker"] == "closed"
    fleet.taps["cloud-0"].up()
    used: list[str] = []

    async def are_both_used() -> bool:
        decision = await answered(fleet, ask.remote)
        used.extend([decision["prefill"]] if decision["outcome"] == "remote" else [])
        return set(used) == set(REMOTE)

    await until(are_both_used, SWITCH_TIMEOUT_S)
    assert (await fleet.overview())["cloud"]["breaker"] == "closed"


async def test_a_transfer_that_stalls_is_given_up_in_its_time(fleet: Fleet, ask: Questions) -> None:
    """The links hold up the bytes while both ends are well: the decode engine computes the prompt itself, the prefill
    is stopped, and the same links carry the next cache. The time comes from a policy that a reload brings."""
    policy, recomputed = fleet.tree["policy"], await recomputes(fleet)
    lost = partial(fleet.metric, "prfaas_faults_total", stage="transfer", reason="transfer")
    faults = await lost()
    fleet.tree["policy"] = {**policy, "remote_timeout_s": CACHE_TIMEOUT_S}
    assert await fleet.reload() == "changed policy"
    for tap in fleet.taps.values():
        tap.stall()
    decision = await answered(fleet, ask.remote)
    for tap in fleet.taps.values():
        tap.flow()
    assert decision["outcome"] == "recomputed"
    # Both sides have a clock; whichever is first ends it.
    assert decision["report"]["reason"] in (
        "not complete within its time",
        "the prefill side ended the transfer: not finished within its time",
    )
    assert await lost() == faults + 1
    assert decision["total_s"] >= CACHE_TIMEOUT_S
    assert await recomputes(fleet) == recomputed + 1
    fleet.tree["policy"] = policy
    assert await fleet.reload() == "changed policy"
    assert (await answered(fleet, ask.remote))["outcome"] == "remote"


async def during_an_answer(fleet: Fleet, ask: Questions, action: Callable[[str], Awaitable[None]]) -> str:
    """Do something to the engine whose answer is under way, and see that new ones go to the other one, exactly, and
    that it ends as it would have. Returns the engine."""
    engines: list[str] = []

    async def meanwhile() -> None:
        engines.append((await fleet.running())["decode"])
        await action(engines[0])
        for question in (ask.near, ask.remote):
            engines.append((await answered(fleet, question))["decode"])

    tokens, _ = await fleet.stream(ask.running.prompt, RUNNING_TOKENS, meanwhile)
    assert_exact(tokens, ask.running.alone)
    assert engines[0] not in engines[1:]
    return engines[0]


async def until_it_answers(fleet: Fleet, engine: str, question: Question) -> None:
    """Equals take turns, so a few answers tell."""

    async def does_answer() -> bool:
        return bool((await answered(fleet, question))["decode"] == engine)

    await until(does_answer)


async def test_a_drained_engine_ends_what_it_has(fleet: Fleet, ask: Questions) -> None:
    """What runs on it runs to its end, everything new goes elsewhere, until it is undrained."""

    async def drain(engine: str) -> None:
        assert await fleet.operate("drain", engine) == f"{engine}: draining, requests in flight: 1"

    engine = await during_an_answer(fleet, ask, drain)
    assert (await fleet.overview())[engine]["state"] == "drained"
    assert await fleet.operate("undrain", engine) == f"{engine}: healthy"
    await until_it_answers(fleet, engine, ask.near)


async def test_an_engine_is_taken_out_and_put_back_by_reload(fleet: Fleet, ask: Questions) -> None:
    """Without it in the file nothing new reaches it, while its answer ends; in the file again it is used again. The
    gateway runs on: taken out by the command, put back by the signal."""
    engines = fleet.tree["engines"]

    async def take_out(engine: str) -> None:
        fleet.tree["engines"] = {name: each for name, each in engines.items() if name != engine}
        reloading = asyncio.ensure_future(fleet.reload())

        async def is_out() -> bool:
            return engine not in await fleet.overview()

        await until(is_out)
        assert (await fleet.running())["decode"] == engine
        assert await reloading == f"removed {engine}"

    engine = await during_an_answer(fleet, ask, take_out)
    assert engine not in await fleet.overview()
    fleet.tree["engines"] = engines
    fleet.hang_up()
    await fleet.until_well([engine])
    await until_it_answers(fleet, engine, ask.near)


async def test_prefill_and_decode_apart_in_one_site(fleet: Fleet, ask: Questions) -> None:
    """A short prompt is prefilled by the engine next door, over the same connector. So is a long one that the other
    site does not take."""
    whole, (decoding, prefilling) = fleet.tree, LOCAL
    fleet.tree = apart(whole)
    del fleet.tree["engines"]["far-0"]
    assert await fleet.reload() == "removed far-0; changed edge-0, edge-1"
    await fleet.until_well(["cloud-0", *LOCAL])
    moved, recomputed = partial(fleet.metric, "prfaas_site_transfer_tokens_total"), await recomputes(fleet)
    before = await moved()
    near = await answered(fleet, ask.near)
    expected = {"placement": "local", "engine": prefilling, "site": "edge", "transfer-id": near["transfer_id"]}
    assert {key: near["headers"][f"x-prfaas-{key}"] for key in expected} == expected
    assert (near["decode"], near["prefill"], near["report"]["ok"]) == (decoding, prefilling, True)
    assert await moved() == before + len(ask.near.prompt) - 1
    assert await recomputes(fleet) == recomputed

    fleet.refuse(REMOTE, 503)
    fallen = await answered(fleet, ask.remote)
    assert [each["prefill"] for each in fallen["tries"]] == ["cloud-0", prefilling]
    assert (fallen["outcome"], fallen["report"]["ok"]) == ("recomputed", True)
    assert await recomputes(fleet) == recomputed + 1

    fleet.tree = whole
    assert await fleet.reload() == "added far-0; changed edge-0, edge-1"
    await fleet.until_well(list(SITES))


async def test_a_decode_engine_that_dies_before_its_first_output_is_stood_in_for(fleet: Fleet, ask: Questions) -> None:
    """Killed during its load: the other local engine answers, once, and the prefill engine is free within the lease."""
    recomputed = await recomputes(fleet)
    asking = asyncio.ensure_future(answered(fleet, ask.long))
    placed = await fleet.running()
    await fleet.pair.until_received(100_000, placed["decode"])
    fleet.kill(placed["decode"])
    decision = await asking
    assert tries(decision) == [("decode", "broke_off"), ("decode", "answered")]
    assert [decision["decode"]] == [name for name in LOCAL if name in fleet.alive]
    assert decision["outcome"] == "recomputed"
    assert await recomputes(fleet) == recomputed + 1
    await fleet.pair.until_idle([placed["prefill"]])


async def test_a_prefill_engine_that_dies_during_its_prefill_is_stood_in_for(fleet: Fleet, ask: Questions) -> None:
    """The other site prefills it all again, under another transfer."""
    recomputed = await recomputes(fleet)
    asking = asyncio.ensure_future(answered(fleet, ask.long))
    placed = await fleet.running()
    await fleet.pair.until_received(100_000, placed["decode"])
    fleet.kill(placed["prefill"])
    decision = await asking
    assert tries(decision) == [("prefill", "broke_off"), ("decode", "answered")]
    assert [decision["prefill"]] == [name for name in REMOTE if name in fleet.alive]
    assert decision["transfer_id"] != placed["transfer_id"]
    assert decision["outcome"] == "remote"
    assert await recomputes(fleet) == recomputed


async def test_a_prefill_engine_that_dies_after_its_prefill_is_not_missed(fleet: Fleet, ask: Questions) -> None:
    """The answer goes on without it. The next prompt, whoever notices first that it is dead, is computed here."""
    prompt, first = ask.long.prompt, ask.long.alone[0]
    alone = await fleet.pair.complete(fleet.alive[0], prompt, MORE_TOKENS + 1, cache_salt=fleet.pair.salt())
    assert alone.tokens[0] == first

    async def die() -> None:
        fleet.kill((await fleet.running())["prefill"])

    tokens, headers = await fleet.stream([*prompt, first], MORE_TOKENS, die)
    assert_exact(tokens, alone.tokens[1:])
    assert (await fleet.decision(headers))["outcome"] == "remote"
    decision = await answered(fleet, ask.remote)
    assert decision["outcome"] == ("recomputed" if len(decision["tries"]) > 1 else "local")
    assert all(each in (("prefill", "unreachable"), ("prefill", "broke_off")) for each in tries(decision)[:-1])


async def test_the_gateway_answers_in_openais_shape_when_no_engine_is_left(fleet: Fleet) -> None:
    """With every engine gone the client gets a 503 with an error object, not a stack trace."""
    [last] = fleet.alive
    fleet.kill(last)
    async with fleet.pair.http.post(f"{fleet.url}/v1/completions", json=fleet.body([65] * 20)) as response:
        assert response.status == 503
        error = (await response.json())["error"]
    assert {"message", "type", "param", "code"} <= error.keys()
    with pytest.raises(aiohttp.ClientError):
        await fleet.pair.metric(last, "vllm:num_requests_running")
