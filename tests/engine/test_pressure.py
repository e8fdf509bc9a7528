"""Too little of everything: staging of a few slots, a cache of a few blocks. Slow answers, never wrong or lost ones.

All of it is traced, which must change nothing.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.engine.models import prompt_tokens
from tests.engine.pair import DECODE, PREFILL, EnginePair, engine_pair, until
from tests.engine.site import Site
from tests.exact import assert_equal, assert_equal_logprobs, assert_exact
from tests.recorder import Collector, Sent, collector

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900), pytest.mark.asyncio(loop_scope="module")]

BLOCKS = {PREFILL: 64, DECODE: 128}
"""Of 384 tokens; a request also takes some blocks in each of the three recurrent groups."""
BLOCK_TOKENS = 384
RECURRENT_BLOCKS = 8
"""Of a prompt besides those of its attention layers, at most."""
STAGING = {"send_mib": 1, "receive_mib": 1, "slot_kib": 128}
ANSWER_TOKENS = 12
WAITING_S = 15.0
"""How long loads wait that never come: many times what a short local answer takes on a busy machine."""
TRACED_TOKENS = 150
"""Of the traced answer. The gateway closes a prefill that has not answered by the end of the client's answer, and vLLM
makes no span of a request that was closed: this answer takes a second or two, on a busy machine as much longer as
everything else."""


@pytest.fixture(scope="module")
def there() -> Iterator[Collector]:
    with collector() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(tmp_path_factory: pytest.TempPathFactory, there: Collector) -> AsyncIterator[EnginePair]:
    few_blocks = {
        name: ("--num-gpu-blocks-override", str(blocks), "--max-model-len", "12288") for name, blocks in BLOCKS.items()
    }
    async with engine_pair(
        "qwen3_next",
        tmp_path_factory.mktemp("pressure"),
        chunk_tokens=512,
        args=few_blocks,
        connector={PREFILL: STAGING, DECODE: STAGING},
        sections={"observe": {"traces": {"endpoint": there.url}}},
    ) as engines:
        yield engines


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(pair: EnginePair, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """One gateway however often its test is asked: a second one would find the port taken."""
    return await Site.before(pair, tmp_path_factory.mktemp("site"))


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def leaves_nothing_behind(pair: EnginePair) -> AsyncIterator[None]:
    """After every test the engines hold no block and the movers no slot."""
    yield
    await pair.until_idle()


async def test_a_cache_larger_than_staging_arrives(pair: EnginePair) -> None:
    """With eight slots on either side a cache of 9 MB crosses, bit for bit."""
    prompt = prompt_tokens(8000, seed=1)
    alone = await pair.alone(prompt, ANSWER_TOKENS + 1)
    remote = await pair.remote([*prompt, alone.tokens[0]], ANSWER_TOKENS)
    assert remote.transfer["ok"], remote.transfer
    assert remote.transfer["cache_bytes"] > 8 * 1024 * 1024
    assert_exact(remote.tokens, alone.tokens[1:])
    assert_equal_logprobs(remote.logprob_difference(alone.shifted()))


async def test_waiting_loads_never_block_local_requests(pair: EnginePair) -> None:
    """While more loads wait than the cache has room for, a local request is answered before any of them."""
    waiting = [
        asyncio.ensure_future(
            pair.complete(
                DECODE,
                prompt_tokens(7000, seed=10 + i),
                1,
                kv_transfer_params={
                    "prfaas": {
                        "role": "decode",
                        "transfer_id": pair.salt(),
                        "secret": "nobody offers this",
                        "timeout_s": WAITING_S,
                        "remote": pair.config.engines[PREFILL].kv,
                    }
                },
            )
        )
        for i in range(4)
    ]

    async def are_open() -> bool:
        return (await pair.staging(DECODE)).open_loads == len(waiting)

    await until(are_open)
    local = await pair.alone(prompt_tokens(300, seed=20), ANSWER_TOKENS)
    assert not any(task.done() for task in waiting)
    assert len(local.tokens) == ANSWER_TOKENS
    answers = await asyncio.gather(*waiting)
    assert all(answer.transfer["ok"] is False for answer in answers)


async def test_more_transfers_than_the_share_of_blocks(pair: EnginePair) -> None:
    """Transfers that cannot all be in flight at once take turns, and each is exact."""
    prompts = [prompt_tokens(5000, seed=30 + i) for i in range(5)]
    answers = await asyncio.gather(*(pair.remote(prompt, 4) for prompt in prompts))
    for answer in answers:
        assert answer.transfer["ok"], answer.transfer
        saved, loaded = await pair.checksums(answer.transfer["transfer_id"])
        assert_equal(loaded["layers"], saved["layers"])


async def test_an_abort_during_a_load_frees_its_blocks(pair: EnginePair) -> None:
    """A client that leaves in the middle of a load leaves no block and no slot behind, on either side."""
    mover = await pair.staging(DECODE)
    request = asyncio.ensure_future(pair.remote(prompt_tokens(6000, seed=40), 4))
    await pair.until_received(500_000, mover)
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)


async def test_preemption_of_a_prefill_changes_nothing(pair: EnginePair) -> None:
    """A prefill that loses its blocks half-way starts over, sends only what is missing, and is exact."""
    preempted_before = await pair.metric(PREFILL, "vllm:num_preemptions_total")
    # One after the other these decodes grow into another block, which the long prefill has to give them.
    lengths = [BLOCK_TOKENS - 6 * i for i in range(1, 9)]
    growing = [
        asyncio.ensure_future(pair.complete(PREFILL, prompt_tokens(length, seed=60 + length), 90)) for length in lengths
    ]

    async def are_running() -> bool:
        return await pair.metric(PREFILL, "vllm:num_requests_running") == len(growing)

    await until(are_running)
    used = await pair.metric(PREFILL, "vllm:kv_cache_usage_perc")
    free_blocks = int((1 - used) * (BLOCKS[PREFILL] - 1))
    prompt = prompt_tokens((free_blocks - RECURRENT_BLOCKS) * BLOCK_TOKENS - 50, seed=50)
    remote = await pair.remote(prompt, ANSWER_TOKENS)
    await asyncio.gather(*growing)
    print(f"\npreemption: {free_blocks} blocks were free, the prompt has {len(prompt)} tokens")
    assert await pair.metric(PREFILL, "vllm:num_preemptions_total") > preempted_before
    assert remote.transfer["ok"], remote.transfer
    # Rows sent before the preemption stay valid; the second attempt computes them again in other chunks, a bit apart.
    saved, loaded = await pair.checksums(remote.transfer["transfer_id"])
    states = [name for name in saved["layers"] if name.endswith("linear_attn")]
    assert_equal([loaded["layers"][name] for name in states], [saved["layers"][name] for name in states])
    assert len(states) == 6
    assert_exact(remote.tokens[:1], (await pair.alone(prompt, 1)).tokens)


async def test_request_is_one_trace_through_gateway_movers_and_engines(site: Site, there: Collector) -> None:
    """From the client's own trace on: P's save within the prefill, D's load within the decode, vLLM's requests in both,
    in the order in which they happen; no prompt and no secret is in any span."""
    await until(site.sends_away)
    # Of its own, so that spans of an earlier try at this test are not among them.
    trace_id, prompt = secrets.token_hex(16), prompt_tokens(3_000, seed=91)
    headers = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
    body = site.body(prompt, max_tokens=TRACED_TOKENS, min_tokens=TRACED_TOKENS)
    async with site.pair.http.post(f"{site.url}/v1/completions", json=body, headers=headers) as answer:
        assert (answer.status, answer.headers["x-prfaas-placement"]) == (200, "remote")
    found: list[Sent] = []

    async def are_there() -> bool:
        found[:] = [span for span in there.spans() if span.trace_id == trace_id]
        return len(found) >= 14

    with contextlib.suppress(TimeoutError):  # what is missing is told below
        await until(are_there)
    names = {span.span_id: span.name for span in found}
    parents = sorted((span.service, span.name, names.get(span.parent_id, "the client's")) for span in found)
    assert parents == [
        ("prfaas-engine", "llm_request", "decode"),
        ("prfaas-engine", "llm_request", "prefill"),
        ("prfaas-gateway", "decode", "request"),
        ("prfaas-gateway", "first token", "decode"),
        ("prfaas-gateway", "place", "request"),
        ("prfaas-gateway", "prefill", "request"),
        ("prfaas-gateway", "request", "the client's"),
        ("prfaas-gateway", "tokenise", "request"),
        ("prfaas-mover", "inject", "load"),
        ("prfaas-mover", "load", "decode"),
        ("prfaas-mover", "receive", "load"),
        ("prfaas-mover", "save", "prefill"),
        ("prfaas-mover", "send", "save"),
        ("prfaas-mover", "stage", "save"),
    ]
    at = {span.name: span for span in found}
    began = [at[name].start_ns for name in ("request", "tokenise", "place", "prefill", "save", "send")]
    assert began == sorted(began)
    ended = [at["request"].start_ns, at["load"].start_ns, at["receive"].end_ns, at["inject"].start_ns]
    ended += [at["inject"].end_ns, at["load"].end_ns, at["request"].end_ns]
    assert ended == sorted(ended)
    assert at["stage"].end_ns <= at["receive"].end_ns <= at["send"].end_ns <= at["save"].end_ns
    assert [names[link] for link in at["send"].links] == ["load"]
    told = b"".join(there.bodies)
    assert bytes(prompt[:40]) not in told
    assert ", ".join(map(str, prompt[:8])).encode() not in told
