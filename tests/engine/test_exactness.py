"""Remote prefill against one engine alone, on real engines: the same tokens, and the same logprobs to the last bit.

*Lossless*: the remote prefill of p + [t1] computes exactly p over there and t1 as the first decode step here, so the
answer must equal the single engine's answer to p shifted by one, with a logprob difference of 0.0.

*Ordinary*: the remote prefill of p has its last token computed by another kernel (decode instead of prefill), which
moves logprobs in the last bits, as another chunking does on a single engine.
"""

import asyncio
import json
import math
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from prfaas.clock import MonotonicClock
from prfaas.errors import ConfigError
from prfaas.fleet.block_hash import ContentKeys
from prfaas.measure.cache import Pair, measure_cache
from prfaas.measure.engine import Engine, session
from prfaas.measure.progress import Silent
from prfaas.measure.prompts import Prompts
from prfaas.measure.run import Wish, measure
from prfaas.planner.families import model_cache
from tests.engine.instrumented import LATE_STATE, SKIP_STATE
from tests.engine.models import prompt_tokens, tiny_adapter, tiny_model
from tests.engine.pair import CLEAR_LEAD, DECODE, PREFILL, Answer, EnginePair, engine_pair, until
from tests.engine.watched import watching
from tests.exact import Inexact, assert_equal, assert_equal_logprobs, assert_exact

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900), pytest.mark.asyncio(loop_scope="module")]

ANSWER_TOKENS = 12
CHUNKS = {
    "qwen3_next": (512, 2048),
    "granite_hybrid": (512,),
    "falcon_h1": (512,),
    "lfm2": (512,),
    "gemma3": (512,),
    "mimo_v2_flash": (512,),
    "dense": (512,),
}
SPAWNED = "dense"
"""The smallest model: its engines are started as they are shipped, spawned and bound to a core, which takes longer."""
CHAOTIC = "lfm2"
"""Of this small model one engine alone moves logprobs by up to 0.9 nats with its chunking, and so turns tokens. Its
ordinary answers are judged by the bytes handed over; the lossless comparison holds for it as for the others."""
ADAPTED = "lfm2"
"""The model that is served with adapters: it has recurrent state and attention. For a mixture of experts with adapters,
such as Qwen3-Next, vLLM has Triton's kernels alone, and none for a CPU."""
SAME, OTHER = "same", "other"
"""Adapters: one whose files lie in two folders, and one of which the sites have different files."""
CHAOTIC_LEAD = 2.0
"""Of its first token, in nats: twice what was seen to move."""
BLOCK_TOKENS = (128, 256, 384)
"""Block sizes of the models."""
LENGTHS = (1, 127, 128, 129, 255, 256, 257, 383, 384, 385, 511, 512, 513, 2047, 2048, 2049, 5000, 20_000)
"""Around the block sizes of the models (128, 256 and 384 tokens) and the ends of chunks, and long."""

AHEAD_TOKENS = 20_000
"""Takes each engine up to a quarter of a minute: except for Qwen3-Next's shape both compute at once."""


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=[(name, chunk) for name, chunks in CHUNKS.items() for chunk in chunks],
    ids=lambda param: f"{param[0]}-{param[1]}",
)
async def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EnginePair]:
    architecture, chunk_tokens = request.param
    folder: Path = tmp_path_factory.mktemp(architecture)
    adapters = make_adapters(architecture, folder) if architecture == ADAPTED else {}
    args = dict.fromkeys(adapters, ("--max-loras", "2"))
    # A cache that is ready before anybody asks for it is kept for the lease.
    patient = {name: {"lease_s": 60} for name in (PREFILL, DECODE)}
    async with engine_pair(
        architecture,
        folder,
        chunk_tokens=chunk_tokens,
        is_spawned=architecture == SPAWNED,
        args=args,
        adapters=adapters,
        connector=patient,
    ) as engines:
        yield engines


def make_adapters(architecture: str, folder: Path) -> dict[str, dict[str, str]]:
    """What each engine has, by its name."""
    first, second = (tiny_adapter(tiny_model(architecture), folder / f"adapter-{seed}", seed) for seed in (1, 2))
    copied = shutil.copytree(first, folder / "copied")
    return {PREFILL: {SAME: str(first), OTHER: str(first)}, DECODE: {SAME: str(copied), OTHER: str(second)}}


@pytest.fixture
def one_chunk_length(pair: EnginePair) -> None:
    """For what has nothing to do with the length of chunks: what a transfer carries once its rows are there, whether
    the comparison is sharp, what is computed here alone. Longer chunks finish several blocks in a step, split a layer's
    rows over several frames, and hold several prompts: lengths, cached prefixes and concurrent transfers are tried with
    them, too."""
    if pair.chunk_tokens != CHUNKS[Path(pair.config.model.path).name][0]:
        pytest.skip("the same with chunks of any length")


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def leaves_nothing_behind(pair: EnginePair) -> AsyncIterator[None]:
    """After every test the engines hold no block and the movers no slot."""
    yield
    await pair.until_idle()


async def assert_lossless(pair: EnginePair, prompt: list[int], salt: str | None = None) -> None:
    alone = await pair.alone(prompt, ANSWER_TOKENS + 1)
    assert_same(await pair.remote([*prompt, alone.tokens[0]], ANSWER_TOKENS, salt=salt), alone)


def assert_same(remote: Answer, alone: Answer) -> None:
    """``remote`` goes on where the first token of ``alone`` ends, to the last bit."""
    assert remote.transfer.get("ok"), remote.transfer
    assert_exact(remote.tokens, alone.tokens[1:])
    assert_equal_logprobs(remote.logprob_difference(alone.shifted()))


@pytest.mark.parametrize("length", LENGTHS)
async def test_lossless_at_every_length(pair: EnginePair, length: int) -> None:
    """Around block and chunk boundaries and at 20,000 tokens the transfer changes no bit of the answer."""
    prompt = prompt_tokens(length, seed=length)
    if length < AHEAD_TOKENS or "qwen3_next" in pair.config.model.path:
        await assert_lossless(pair, prompt)
    else:
        await assert_lossless_ahead(pair, prompt)


async def assert_lossless_ahead(pair: EnginePair, prompt: list[int]) -> None:
    """The same with both sides computing at once: the prefill side needs no more than that a token follows, not which.
    Its cache is there, or as much of it as staging holds, before anybody asks for it."""
    transfer, salt = pair.transfer(), pair.salt()
    prefill = asyncio.ensure_future(pair.prefill([*prompt, prompt[0]], transfer, cache_salt=salt))
    alone = await pair.alone(prompt, ANSWER_TOKENS + 1)
    remote = await pair.decode([*prompt, alone.tokens[0]], ANSWER_TOKENS, transfer, cache_salt=salt)
    await prefill
    assert_same(remote, alone)


@pytest.mark.usefixtures("one_chunk_length")
async def test_a_measured_cache_is_that_of_the_layers(pair: EnginePair) -> None:
    """What `prfaas profile` measures on the wire is what it computes from the configuration, to the byte or block."""
    tree = model_tree(pair)
    lengths = (300, 1500)
    async with session() as http:
        prefill, decode = (Engine(http, pair.config.engines[name].url, MonotonicClock()) for name in (PREFILL, DECODE))
        facts = await prefill.facts()
        try:
            computed = model_cache(tree, facts.cache_types)
        except ConfigError as error:
            pytest.skip(str(error))
        kv = {name: pair.config.engines[name].kv for name in (PREFILL, DECODE)}
        source = Pair(prefill, decode, remote=kv[PREFILL], target=kv[DECODE], reports=pair.reports)
        prompts = Prompts(0, tree["vocab_size"], pair.salt())
        found, missing = await measure_cache(source, facts.model, lengths, prompts, Silent())
    assert not missing
    for length in lengths:
        # A window's rows begin at a block, and groups of layers may have their own; without windows both are equal.
        least, most = computed.prompt_bytes(length), computed.prompt_bytes(length, block_tokens=length)
        assert least <= found[length] <= most


def model_tree(pair: EnginePair) -> dict[str, Any]:
    """The ``config.json`` of what the engines serve."""
    tree: dict[str, Any] = json.loads(Path(pair.config.model.path, "config.json").read_text())
    return tree


async def test_a_real_engine_is_measured(pair: EnginePair) -> None:
    """`prfaas profile` on a real engine: a longer prompt takes longer, a larger batch makes more tokens."""
    if "qwen3_next" not in pair.config.model.path or pair.chunk_tokens != CHUNKS["qwen3_next"][0]:
        pytest.skip("one model is enough")
    wish = Wish(lengths=(256, 4096), batches=(1, 8), rounds=2, steps=16, context_tokens=64)
    async with session() as http:
        engine = Engine(http, pair.config.engines[PREFILL].url, MonotonicClock())
        facts, prompts = await engine.facts(), Prompts(0, 256, pair.salt())
        measured = await measure(engine, facts, wish, prompts, None, is_computed=True, steps=Silent())
    assert facts.version.startswith("0.32")
    assert min(measured.prefill[4096]) > max(measured.prefill[256])
    assert measured.decode is not None
    assert sorted(measured.decode.seconds) == [1, 8]
    # On a busy machine a step's seconds are mostly others'; eight answers a step are more tokens on any.
    assert min(measured.decode.seconds[8]) / 8 < min(measured.decode.seconds[1])


@pytest.fixture
def adapters(pair: EnginePair) -> dict[str, dict[str, str]]:
    """Paths of the adapters, by engine and name."""
    if ADAPTED not in pair.config.model.path:
        pytest.skip("this model is served without adapters")
    return {name: dict(pair.adapters[name]) for name in (PREFILL, DECODE)}


@pytest.mark.usefixtures("adapters")
@pytest.mark.parametrize("length", [129, 2049])
async def test_lossless_with_an_adapter(pair: EnginePair, length: int) -> None:
    """Its cache crosses like that of the model, and gives other tokens than the model's."""
    prompt = prompt_tokens(length, seed=length)
    alone = await pair.alone(prompt, ANSWER_TOKENS + 1, model=SAME)
    remote = await pair.remote([*prompt, alone.tokens[0]], ANSWER_TOKENS, model=SAME)
    assert remote.transfer.get("ok"), remote.transfer
    assert_exact(remote.tokens, alone.tokens[1:])
    assert_equal_logprobs(remote.logprob_difference(alone.shifted()))
    assert (await pair.alone(prompt, ANSWER_TOKENS + 1)).tokens != alone.tokens


@pytest.mark.usefixtures("adapters")
@pytest.mark.parametrize(("there", "here"), [(OTHER, OTHER), ("tiny", SAME), (SAME, "tiny")])
async def test_a_cache_of_another_adapter_is_not_loaded(pair: EnginePair, there: str, here: str) -> None:
    """Neither one of the same name and other files, nor the model's for an adapter, nor an adapter's for the model."""
    prompt = prompt_tokens(900, seed=14)
    alone = await pair.alone(prompt, ANSWER_TOKENS, model=here)
    remote = await pair.remote(prompt, ANSWER_TOKENS, model=here, prefill_model=there)
    assert remote.transfer["ok"] is False
    assert_exact(remote.tokens, alone.tokens)
    assert_equal_logprobs(remote.logprob_difference(alone))


async def test_the_index_keeps_adapters_apart(pair: EnginePair, adapters: dict[str, dict[str, str]]) -> None:
    """What it predicts for the model and for each adapter is what the engine reports, on both sides of a transfer."""
    prompt = prompt_tokens(1_100, seed=15)
    async with watching(pair, BLOCK_TOKENS[0]) as watched:
        for engine in (PREFILL, DECODE):
            keys = [ContentKeys(adapter=(name, adapters[engine][name])) for name in (SAME, OTHER)]
            for each in (ContentKeys(), *keys):
                for _ in range(3):
                    await watched.check(engine, prompt, each)
                await watched.settled(engine)
                assert watched.predicted(engine, prompt, each) > 0
        hits = [hit for _, hit in watched.seen]
        assert hits[::3] == [0] * 6, "the first of each three finds nothing that another has left"
        linked = prompt_tokens(1_100, seed=16)
        assert (await pair.remote(linked, 2, salt="linked", model=SAME)).transfer["ok"]
        for engine in (PREFILL, DECODE):
            await watched.check(engine, linked, ContentKeys("linked"))
            assert watched.seen[-1][1] == 0
            for _ in range(2):
                await watched.check(engine, linked, ContentKeys("linked", (SAME, adapters[engine][SAME])))
            assert watched.seen[-1][1] > 0


async def rechunked(pair: EnginePair, prompt: list[int], rest: int) -> Answer:
    """The decode engine alone, with chunks that end elsewhere: another prompt's last ``rest`` tokens come first."""
    chunks_ahead = max(2, 4096 // pair.chunk_tokens)
    filler = prompt_tokens(chunks_ahead * pair.chunk_tokens + rest, seed=900 + rest)
    ahead = asyncio.ensure_future(pair.alone(filler, 1))

    async def has_begun() -> bool:
        return ahead.done() or await pair.is_running(DECODE)

    await until(has_begun)
    answer = await pair.alone(prompt, ANSWER_TOKENS)
    await ahead
    return answer


@pytest.mark.parametrize("length", [60, 1000, 5000])
async def test_ordinary_answers_equal_tokens(pair: EnginePair, length: int) -> None:
    """A remote prefill gives the tokens of one engine, and logprobs as near as another chunking of that engine.

    The prompt is one whose tokens no chunking turns, judged by the single engine alone. Where there is none, the answer
    must be one that the single engine gives under one of the chunkings.
    """
    # The last one leaves a chunk of one token for the end, which the decode kernel computes.
    rests = (100, pair.chunk_tokens - (length - 1) % pair.chunk_tokens)
    for seed in range(length, length + 6):
        prompt, alone = await pair.clear_prompt(length, seed, ANSWER_TOKENS)
        answers = [alone, *[await rechunked(pair, prompt, rest) for rest in rests]]
        if all(answer.tokens == alone.tokens for answer in answers):
            break
    remote = await pair.remote(prompt, ANSWER_TOKENS)
    assert remote.transfer.get("ok"), remote.transfer
    if CHAOTIC in pair.config.model.path:
        saved, loaded = await pair.checksums(remote.transfer["transfer_id"])
        assert_equal(loaded["layers"], saved["layers"])
        return
    twins = [answer for answer in answers if answer.tokens == remote.tokens]
    if not twins:
        raise Inexact(f"{remote.tokens}, which none is of {[answer.tokens for answer in answers]}")
    own = max(twins[0].logprob_difference(twin) for twin in twins)
    difference = remote.logprob_difference(twins[0])
    print(f"\nlogprobs {pair.config.model.path} {length}: remote {difference:.5f}, rechunked {own:.5f}")
    assert difference <= max(own, CLEAR_LEAD)


@pytest.mark.parametrize(
    ("on_prefill", "on_decode"),
    [(0, 0), (1, 0), (0, 1), (1, 1), (2, 1), (1, 2)],
    ids=str,
)
async def test_lossless_with_cached_prefixes(pair: EnginePair, on_prefill: int, on_decode: int) -> None:
    """Whatever part of the prompt either side has cached already, the answer stays the same.

    The cached parts are multiples of every model's blocks and of the chunk, so that chunks keep the shapes they have in
    a cold prefill: the last bits of many kernels depend on them.
    """
    unit = math.lcm(pair.chunk_tokens, *BLOCK_TOKENS)
    prompt, salt = prompt_tokens(2 * unit + 928, seed=77), pair.salt()
    alone = await pair.alone(prompt, ANSWER_TOKENS + 1)
    extended = [*prompt, alone.tokens[0]]
    for engine, cached in ((PREFILL, on_prefill * unit), (DECODE, on_decode * unit)):
        # Twice: a recurrent checkpoint at a shared boundary is kept only once sharing has been seen.
        for seed in range(2 if cached else 0):
            await pair.complete(engine, extended[:cached] + prompt_tokens(9, seed=seed), 1, cache_salt=salt)
    remote = await pair.remote(extended, ANSWER_TOKENS, salt=salt)
    assert remote.transfer.get("ok"), remote.transfer
    assert remote.transfer["held_tokens"] == (on_decode * unit if pair.caches_prefixes else 0)
    assert_exact(remote.tokens, alone.tokens[1:])
    assert_equal_logprobs(remote.logprob_difference(alone.shifted()))


@pytest.mark.usefixtures("one_chunk_length")
async def test_a_second_turn_loads_on_top_of_the_first(pair: EnginePair) -> None:
    """A conversation goes on: what the first turn left here is kept, the rest is loaded, the tokens are the same.

    Rows of the first answer were computed by the decode kernel, so the last bits differ from a cold prefill. The first
    prompt ends just beyond a boundary of every model's blocks: vLLM keeps of a loaded window layer only what lies in
    the window, and a later hit there needs the window before the boundary.
    """
    length = 2 * math.lcm(*BLOCK_TOKENS) + 4
    salt, (first, _) = pair.salt(), await pair.clear_prompt(length, 5, ANSWER_TOKENS)
    answer = await pair.remote(first, ANSWER_TOKENS, salt=salt)
    compared, lead = (1, CHAOTIC_LEAD) if CHAOTIC in pair.config.model.path else (ANSWER_TOKENS, CLEAR_LEAD)
    for seed in range(6, 26):
        second = [*first, *answer.tokens, *prompt_tokens(700, seed=seed)]
        alone = await pair.alone(second, compared)
        if alone.lead > lead:
            break
    remote = await pair.remote(second, ANSWER_TOKENS, salt=salt)
    assert remote.transfer.get("ok"), remote.transfer
    assert (remote.transfer["held_tokens"] > 0) is pair.caches_prefixes
    assert_exact(remote.tokens[:compared], alone.tokens)


@pytest.mark.usefixtures("one_chunk_length")
async def test_what_was_loaded_serves_later_prompts(pair: EnginePair) -> None:
    """A prompt that hits blocks which a transfer has filled gets the answer of a prompt that computed them here."""
    if not pair.caches_prefixes:
        pytest.skip("this model runs without prefix caching")
    salt, (prompt, alone) = pair.salt(), await pair.clear_prompt(1001, 8, ANSWER_TOKENS)
    remote = await pair.remote(prompt, ANSWER_TOKENS, salt=salt)
    assert remote.transfer.get("ok"), remote.transfer
    again = await pair.alone(prompt, ANSWER_TOKENS, salt=salt)
    assert_exact(again.tokens, alone.tokens)
    assert again.logprob_difference(alone) < CLEAR_LEAD


async def test_concurrent_prompts_with_a_common_beginning_carry_the_right_bytes(pair: EnginePair) -> None:
    """Prompts that share blocks still being computed in the same step hand over the finished ones."""
    salt, common = pair.salt(), prompt_tokens(1200, seed=400)
    answers = await asyncio.gather(
        *(pair.remote([*common, *prompt_tokens(100 + i, seed=401 + i)], 4, salt=salt) for i in range(4))
    )
    for answer in answers:
        assert answer.transfer.get("ok"), answer.transfer
        saved, loaded = await pair.checksums(answer.transfer["transfer_id"])
        # What this side held already it may have computed itself, in other chunks: sums over the rest are comparable.
        if loaded["held"] == 0:
            assert_equal(loaded["layers"], saved["layers"])


async def test_concurrent_transfers_carry_the_right_bytes(pair: EnginePair) -> None:
    """Sixteen transfers of mixed lengths at once: every byte re-read from this cache equals the other site's."""
    lengths = [40, 3000, 129, 700, 385, 1500, 60, 2500, 513, 90, 1100, 4000, 256, 800, 33, 2000]
    prompts = [prompt_tokens(length, seed=300 + i) for i, length in enumerate(lengths)]
    ids = [f"load-{i}-{pair.salt()}" for i in range(len(lengths))]
    answers = await asyncio.gather(
        *(pair.remote(prompt, 8, transfer_id=name) for prompt, name in zip(prompts, ids, strict=True))
    )
    for name, answer, length in zip(ids, answers, lengths, strict=True):
        assert answer.transfer.get("ok"), (length, answer.transfer)
        saved, loaded = await pair.checksums(name)
        assert saved["num_tokens"] == loaded["num_tokens"] == length - 1
        assert_equal(loaded["layers"], saved["layers"])


@pytest.mark.usefixtures("one_chunk_length")
async def test_recompute_equals_local_prefill(pair: EnginePair) -> None:
    """A load that fails is recomputed here with the very bits of a local prefill."""
    prompt = prompt_tokens(1200, seed=41)
    alone = await pair.alone(prompt, ANSWER_TOKENS)
    params = {"role": "decode", "transfer_id": pair.salt(), "secret": "s", "timeout_s": 2, "remote": "127.0.0.1:9"}
    failed = await pair.complete(
        DECODE, prompt, ANSWER_TOKENS, cache_salt=pair.salt(), kv_transfer_params={"prfaas": params}
    )
    assert failed.transfer.get("ok") is False
    assert_exact(failed.tokens, alone.tokens)
    assert_equal_logprobs(failed.logprob_difference(alone))


@pytest.mark.usefixtures("one_chunk_length")
@pytest.mark.parametrize("layer", [0, 1, 6])
async def test_a_state_that_is_not_written_is_seen(pair: EnginePair, layer: int) -> None:
    """The lossless comparison notices the missing state of one single layer."""
    if "qwen3_next" not in pair.config.model.path:
        pytest.skip("the mutations name layers of the Qwen3-Next shape")
    prompt = prompt_tokens(900, seed=12)
    alone = await pair.alone(prompt, ANSWER_TOKENS + 1)
    remote = await pair.remote(
        [*prompt, alone.tokens[0]], ANSWER_TOKENS, transfer_id=f"{SKIP_STATE}{layer}-{pair.salt()}"
    )
    assert remote.transfer.get("ok"), remote.transfer
    assert remote.logprob_difference(alone.shifted()) > 0.0


@pytest.mark.usefixtures("one_chunk_length")
async def test_a_state_one_token_late_is_seen(pair: EnginePair) -> None:
    """The lossless comparison notices a state that has taken in one token too many."""
    if "qwen3_next" not in pair.config.model.path:
        pytest.skip("the mutations are tried on the Qwen3-Next shape")
    prompt = prompt_tokens(900, seed=13)
    alone = await pair.alone(prompt, ANSWER_TOKENS + 1)
    remote = await pair.remote([*prompt, alone.tokens[0]], ANSWER_TOKENS, transfer_id=f"{LATE_STATE}{pair.salt()}")
    assert remote.transfer.get("ok"), remote.transfer
    assert remote.logprob_difference(alone.shifted()) > 0.0
