"""What breaks in a fleet of two local and two remote engines: another way is taken, and each answer is exact.

All tests share one fleet, and each leaves it as it was, so that any can be repeated. Only those at the end, which kill
its engines one after the other, leave the dead as they are: starting an engine takes half a minute, and none of them
needs all.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.engine.convertible import Convertible, convertible_site
from tests.engine.fleet import LOCAL, REMOTE, SITES, Fleet, apart, fleet_of
from tests.engine.models import prompt_tokens
from tests.engine.pair import until
from tests.engine.refusals import withdraw
from tests.engine.site import ANSWER_TOKENS, Site
from tests.exact import assert_exact

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900), pytest.mark.asyncio(loop_scope="module")]

LONG_TOKENS = 12_000
"""Prefilled in some two seconds: time to break something in the middle."""
MIDDLE_BYTES = 100_000
"""Of its cache, of 13 MB."""
HELD_UP_BYTES = 1_000_000
"""What a link lets through before it holds the rest up. A mover counts whole frames, of up to 256 KiB, and two
connections may have one of them half-way each: with less a cache may stop ahead of its first whole frame."""
RUNNING_TOKENS = 300
"""Of an answer during which an operator gives a command: some seconds, for a call that takes milliseconds."""
SWITCH_TIMEOUT_S = 120.0
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
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    async with fleet_of(tmp_path_factory.mktemp("fleet")) as fleet:
        yield fleet


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ask(shared: Fleet) -> Questions:
    async def clear(length: int, seed: int) -> Question:
        prompt, alone = await shared.pair.clear_prompt(length, seed, ANSWER_TOKENS)
        return Question(prompt, alone.tokens)

    # Its prompt stays here and runs alone on its engine, so a near-tie in it falls as it does for one engine.
    running = prompt_tokens(100, seed=6)
    alone = await shared.pair.alone(running, RUNNING_TOKENS)
    return Questions(
        await clear(900, 1), await clear(500, 2), await clear(LONG_TOKENS, 3), Question(running, alone.tokens)
    )


@pytest_asyncio.fixture(loop_scope="module")
async def fleet(shared: Fleet) -> AsyncIterator[Fleet]:
    """All of it, whatever was killed before."""
    await shared.revive(list(SITES), len(SITES))
    yield shared
    await shared.restore()


@pytest_asyncio.fixture(loop_scope="module")
async def survivors(shared: Fleet) -> AsyncIterator[Fleet]:
    """What is left of it; the test says what it needs."""
    yield shared
    await shared.restore()


@pytest_asyncio.fixture(loop_scope="module")
async def divided(fleet: Fleet) -> Fleet:
    """Prefill and decode apart within the gateway's site, and one other site that prefills."""
    fleet.tree = apart(fleet.tree)
    del fleet.tree["engines"]["far-0"]
    assert await fleet.reload() == "removed far-0; changed edge-0, edge-1"
    await fleet.until_well(["cloud-0", *LOCAL])
    return fleet


async def answered(fleet: Site, question: Question) -> dict[str, Any]:
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


async def shows_its_links(fleet: Fleet, engine: str) -> bool:
    """Let the engine compute something, for only then does vLLM take statistics; are they those of its mover?"""
    await fleet.pair.complete(engine, prompt_tokens(20, seed=2), 2)
    moved_bytes = sum(link.delivered_bytes for link in (await fleet.pair.staging(engine)).links)
    assert moved_bytes > 0
    return await fleet.pair.metric(engine, "prfaas_link_delivered_bytes_total") == moved_bytes


async def test_engines_show_what_crossed_their_links_on_their_own_metrics(fleet: Fleet, ask: Questions) -> None:
    """After a remote prefill both sides show the bytes that crossed, as soon as they have computed something."""
    decision = await answered(fleet, ask.remote)
    assert decision["outcome"] == "remote"
    for engine in (decision["prefill"], decision["decode"]):
        await until(partial(shows_its_links, fleet, engine))
        assert await fleet.pair.metric(engine, "prfaas_link_connections") > 0


async def test_the_command_line_drains_undrains_and_reloads(fleet: Fleet) -> None:
    """In the words of its own."""
    assert await fleet.command("drain", "edge-1") == "edge-1: drained, requests in flight: 0"
    assert (await fleet.overview())["edge-1"]["state"] == "drained"
    assert await fleet.command("undrain", "edge-1") == "edge-1: healthy"
    fleet.tree["policy"] = {**fleet.whole["policy"], "remote_timeout_s": CACHE_TIMEOUT_S}
    fleet.write()
    assert await fleet.command("reload") == "changed policy"


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
    A trial that succeeds closes the breaker."""
    assert await fleet.drain("far-0") == ("drained", 0)

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
    is stopped, and the same links carry the next cache."""
    recomputed = await recomputes(fleet)
    lost = partial(fleet.metric, "prfaas_faults_total", stage="transfer", reason="transfer")
    faults = await lost()
    fleet.tree["policy"] = {**fleet.whole["policy"], "remote_timeout_s": CACHE_TIMEOUT_S}
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
    fleet.tree["policy"] = fleet.whole["policy"]
    await fleet.reload()
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
        assert await fleet.drain(engine) == ("draining", 1)

    engine = await during_an_answer(fleet, ask, drain)
    assert (await fleet.overview())[engine]["state"] == "drained"
    await fleet.order(f"engines/{engine}/undrain")
    await until_it_answers(fleet, engine, ask.near)


async def test_an_engine_is_taken_out_and_put_back_by_reload(fleet: Fleet, ask: Questions) -> None:
    """Without it in the file nothing new reaches it, while its answer ends; in the file again it is used again. The
    gateway runs on: taken out by its route, put back by the signal."""
    engines = fleet.whole["engines"]

    async def take_out(engine: str) -> None:
        fleet.tree["engines"] = {name: each for name, each in engines.items() if name != engine}
        assert await fleet.reload() == f"removed {engine}"
        assert engine not in await fleet.overview()
        assert (await fleet.running())["decode"] == engine

    engine = await during_an_answer(fleet, ask, take_out)
    fleet.tree["engines"] = engines
    fleet.hang_up()
    await fleet.until_well([engine])
    await until_it_answers(fleet, engine, ask.near)


async def test_a_short_prompt_is_prefilled_next_door(divided: Fleet, ask: Questions) -> None:
    """By the engine of this site that prefills, over the same connector."""
    (decoding, prefilling), moved = LOCAL, partial(divided.metric, "prfaas_site_transfer_tokens_total")
    before, recomputed = await moved(), await recomputes(divided)
    near = await answered(divided, ask.near)
    expected = {"placement": "local", "engine": prefilling, "site": "edge", "transfer-id": near["transfer_id"]}
    assert {key: near["headers"][f"x-prfaas-{key}"] for key in expected} == expected
    assert (near["decode"], near["prefill"], near["report"]["ok"]) == (decoding, prefilling, True)
    assert await moved() == before + len(ask.near.prompt) - 1
    assert await recomputes(divided) == recomputed


async def test_a_long_prompt_that_no_other_site_takes_is_prefilled_next_door(divided: Fleet, ask: Questions) -> None:
    """Which counts as a recompute, for it was to be done elsewhere."""
    recomputed = await recomputes(divided)
    divided.refuse(REMOTE, 503)
    fallen = await answered(divided, ask.remote)
    assert [each["prefill"] for each in fallen["tries"]] == ["cloud-0", LOCAL[1]]
    assert (fallen["outcome"], fallen["report"]["ok"]) == ("recomputed", True)
    assert await recomputes(divided) == recomputed + 1


@pytest_asyncio.fixture(loop_scope="module")
async def convertibles(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Convertible]:
    """The local engines behind another gateway, which converts them."""
    async with convertible_site(fleet, tmp_path_factory.mktemp("conversion")) as site:
        yield site


async def test_engines_change_their_roles_and_back_without_a_restart(convertibles: Convertible, ask: Questions) -> None:
    """A decode engine ends its answer, prefills for the other one, decodes again, and has the other one prefill for it:
    the same processes all the time, exact tokens before, during and after, and nothing held at the end."""
    site = convertibles
    processes = [site.pair.child(name).pid for name in LOCAL]

    async def who_answers() -> tuple[str, str | None]:
        """Which engine decodes, and which one prefills for it."""
        decision = await answered(site, ask.near)
        if decision["prefill"] is not None:
            assert (decision["report"]["ok"], decision["report"]["tokens"]) == (True, len(ask.near.prompt) - 1)
        return decision["decode"], decision["prefill"]

    decoding, prefilling = await who_answers()
    assert decoding in LOCAL
    assert prefilling is None

    converted: list[str] = []

    async def convert() -> None:
        [first] = [name for name, each in (await site.engines()).items() if each["inflight"]]
        converted.append(first)
        site.order(**{first.replace("-", "_"): "prefill"})

        async def has_begun() -> bool:
            return bool((await site.engines())[first]["state"] == "converting")

        await until(has_begun)

    tokens, _ = await site.stream(ask.running.prompt, RUNNING_TOKENS, convert)
    assert_exact(tokens, ask.running.alone)
    [one] = converted
    [other] = {*LOCAL} - {one}
    one_key, other_key = one.replace("-", "_"), other.replace("-", "_")
    await site.until_roles(**{one_key: "prefill", other_key: "decode"})
    assert await who_answers() == (other, one)

    site.order(**{one_key: "decode"})
    await site.until_roles(**{one_key: "decode", other_key: "decode"})
    _, prefilling = await who_answers()
    assert prefilling is None

    site.order(**{other_key: "prefill"})
    await site.until_roles(**{one_key: "decode", other_key: "prefill"})
    assert await who_answers() == (one, other)

    assert [site.pair.child(name).pid for name in LOCAL] == processes
    assert await site.metric("prfaas_controller_conversions_total", outcome="converted") == 3
    await site.pair.until_idle(LOCAL)


async def broken_in_the_middle(fleet: Fleet, question: Question, what: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Ask, and kill the engine that is to decode or to prefill once some of the cache is there; the links hold the rest
    up till then, and that from the dead engine also the word that it is gone. How the request was placed first, and its
    record."""
    movers = {name: await fleet.pair.staging(name) for name in LOCAL if name in fleet.alive}
    for tap in fleet.taps.values():
        tap.stall(HELD_UP_BYTES)
    asking = asyncio.ensure_future(answered(fleet, question))
    try:
        placed = await fleet.running()
        await fleet.pair.until_received(MIDDLE_BYTES, movers[placed["decode"]], placed["decode"])
        fleet.kill(placed[what])
        for name in fleet.taps.keys() - {placed[what]}:
            fleet.taps[name].flow()
        return placed, await asking
    finally:
        asking.cancel()


async def test_a_decode_engine_that_dies_before_its_first_output_is_stood_in_for(
    survivors: Fleet, ask: Questions
) -> None:
    """Killed during its load: the other local engine answers, once, and the prefill engine is free within the lease."""
    await survivors.revive(LOCAL, 2)
    await survivors.revive(REMOTE, 1)
    recomputed = await recomputes(survivors)
    placed, decision = await broken_in_the_middle(survivors, ask.long, "decode")
    assert tries(decision) == [("decode", "broke_off"), ("decode", "answered")]
    assert [decision["decode"]] == [name for name in LOCAL if name in survivors.alive]
    assert decision["outcome"] == "recomputed"
    assert await recomputes(survivors) == recomputed + 1
    await survivors.pair.until_idle([placed["prefill"]])


async def test_a_prefill_engine_that_dies_during_its_prefill_is_stood_in_for(survivors: Fleet, ask: Questions) -> None:
    """The other site prefills it all again, under another transfer."""
    await survivors.revive(LOCAL, 1)
    await survivors.revive(REMOTE, 2)
    recomputed = await recomputes(survivors)
    placed, decision = await broken_in_the_middle(survivors, ask.long, "prefill")
    assert tries(decision) == [("prefill", "broke_off"), ("decode", "answered")]
    assert [decision["prefill"]] == [name for name in REMOTE if name in survivors.alive]
    assert decision["transfer_id"] != placed["transfer_id"]
    assert decision["outcome"] == "remote"
    assert await recomputes(survivors) == recomputed


async def test_a_prefill_engine_that_dies_after_its_prefill_is_not_missed(survivors: Fleet, ask: Questions) -> None:
    """The answer goes on without it. The next prompt, whoever notices first that it is dead, is computed here."""
    fleet = survivors
    await fleet.revive(LOCAL, 1)
    await fleet.revive(REMOTE, 1)
    await fleet.reduce(REMOTE, 1)
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


async def test_the_gateway_answers_in_openais_shape_when_no_engine_is_left(survivors: Fleet) -> None:
    """With every engine gone the client gets a 503 with an error object, not a stack trace."""
    fleet = survivors
    await fleet.revive(LOCAL, 1)
    last = fleet.alive[-1]
    await fleet.reduce(SITES, 0)
    async with fleet.pair.http.post(f"{fleet.url}/v1/completions", json=fleet.body([65] * 20)) as response:
        assert response.status == 503
        error = (await response.json())["error"]
    assert {"message", "type", "param", "code"} <= error.keys()
    with pytest.raises(aiohttp.ClientError):
        await fleet.pair.metric(last, "vllm:num_requests_running")
