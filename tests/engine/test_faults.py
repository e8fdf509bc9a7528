"""What breaks between the sites, on real engines behind the real gateway: the answer stays exact, and nothing is left.

The engines are killed and started again here, so these tests have a pair of their own. They run in the order of the
file: the last one leaves the prefill engine dead.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import openai
import pytest
import pytest_asyncio

from prfaas.config import parse_config
from prfaas.gateway.prompt.hf_tokenizer import load_tokenizer
from prfaas.gateway.prompt.parity import mismatches
from prfaas.launch.local import free_ports
from prfaas.launch.stack import Service
from tests.engine.models import prompt_tokens, tiny_model
from tests.engine.pair import (
    DECODE,
    PREFILL,
    Answer,
    EnginePair,
    engine_pair,
    engine_service,
    forked,
    replace_model,
    serve_args,
    until,
)
from tests.engine.site import ANSWER_TOKENS, GATEWAY, Site
from tests.engine.wire_tap import WireTap, tapped
from tests.exact import assert_equal, assert_exact

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900), pytest.mark.asyncio(loop_scope="module")]

STRANGER = "cloud-1"
CHUNK_TOKENS = 512
LONG_TOKENS = 12_000
"""Prefilled in some two seconds here: time enough to break something in the middle."""
UNLOADABLE: list[dict[str, Any]] = [{"n": 2, "temperature": 1, "top_k": 1}, {"prompt_logprobs": 1}]
"""vLLM refuses n > 1 at temperature 0; the likeliest of one candidate is the same token."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("faults")
    async with engine_pair("qwen3_next", folder, chunk_tokens=CHUNK_TOKENS, is_compiled=True) as pair:
        yield await Site.before(pair, folder)


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def leaves_nothing_behind(site: Site) -> AsyncIterator[None]:
    """After every test the decode engine holds no block and its mover no slot."""
    yield
    await site.pair.until_idle([DECODE])


async def test_a_remote_answer_through_the_gateway_is_exact(site: Site) -> None:
    """The undisturbed case: the gateway sends a long prompt away and the answer has the tokens of one engine."""
    prompt, alone = await site.pair.clear_prompt(3000, 50, ANSWER_TOKENS)
    answer, headers = await site.ask(prompt)
    assert headers["x-prfaas-outcome"] == "remote"
    assert int(headers["x-prfaas-remote-tokens"]) == 2999
    assert_exact(answer.tokens, alone.tokens)


async def test_the_gateway_tokenises_as_the_engine_does(site: Site) -> None:
    """For every kind of request the ids made in the gateway are those the engine would have made."""
    config = site.pair.config
    tokenizer = load_tokenizer(config.model.path, config.model.max_model_len)

    async def ask(body: Mapping[str, Any]) -> list[int]:
        named = {"model": config.model.name, **body}
        async with site.pair.http.post(f"{config.engines[DECODE].url}/tokenize", json=named) as response:
            assert response.status == 200, await response.text()
            tokens: list[int] = (await response.json())["tokens"]
            return tokens

    assert await mismatches(tokenizer, ask) == []


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_remote_chat_says_what_one_engine_says(site: Site, stream: bool) -> None:
    """The official client, through the gateway and at the engine alone, reads the same words."""
    messages = [{"role": "user", "content": bytes(prompt_tokens(1500, seed=61)).decode()}]
    config = site.pair.config
    texts = []
    for url in (site.url, config.engines[DECODE].url):
        http = openai.DefaultAsyncHttpxClient(trust_env=False)
        client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, http_client=http)
        extra = {"cache_salt": site.pair.salt()}
        answer: Any = await client.chat.completions.create(
            model=config.model.name,
            messages=messages,  # type: ignore[arg-type]
            max_tokens=ANSWER_TOKENS,
            temperature=0,
            stream=stream,
            extra_body=extra,
        )
        if stream:
            texts.append("".join([chunk.choices[0].delta.content or "" async for chunk in answer if chunk.choices]))
        else:
            texts.append(answer.choices[0].message.content)
        await client.close()
    assert_equal(*texts)
    assert len(texts[0]) > 0


@pytest.mark.parametrize("fields", UNLOADABLE, ids=["n", "prompt_logprobs"])
async def test_requests_that_cannot_be_loaded_stay_local_and_say_so(site: Site, fields: dict[str, Any]) -> None:
    """Such requests are answered by the local engine, with the reason in a header."""
    prompt, alone = await site.pair.clear_prompt(900, 51, ANSWER_TOKENS)
    answer, headers = await site.ask(prompt, **fields)
    assert headers["x-prfaas-placement"] == "local"
    assert next(iter(fields)) in headers["x-prfaas-reason"]
    assert_exact(answer.tokens, alone.tokens)


@pytest.mark.parametrize("fields", UNLOADABLE, ids=["n", "prompt_logprobs"])
async def test_such_requests_do_no_harm_when_they_reach_the_engine(site: Site, fields: dict[str, Any]) -> None:
    """Without a gateway in front, the connector itself keeps what it cannot load local and leaks nothing."""
    prompt, alone = await site.pair.clear_prompt(900, 52, ANSWER_TOKENS)
    params = {
        "role": "decode",
        "transfer_id": site.pair.salt(),
        "secret": "s",
        "timeout_s": 3,
        "remote": site.pair.config.engines[PREFILL].kv,
    }
    answer = await site.pair.complete(
        DECODE, prompt, ANSWER_TOKENS, cache_salt=site.pair.salt(), kv_transfer_params={"prfaas": params}, **fields
    )
    assert_exact(answer.tokens, alone.tokens)


async def test_a_client_that_leaves_stops_both_engines(site: Site) -> None:
    """A connection closed during the load frees the decode side and ends the prefill within a step."""
    body = site.body(prompt_tokens(LONG_TOKENS, seed=53), stream=True)
    before = await site.pair.metric(PREFILL, "vllm:prompt_tokens_total")
    mover = await site.pair.staging(DECODE)
    request = asyncio.ensure_future(site.pair.http.post(f"{site.url}/v1/completions", json=body))
    await site.pair.until_received(500_000, mover)
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    await site.pair.until_idle()
    computed = await site.pair.metric(PREFILL, "vllm:prompt_tokens_total") - before
    assert computed < LONG_TOKENS - 1


async def test_a_gateway_killed_at_any_moment_leaves_nothing(site: Site) -> None:
    """Both engines end what nobody waits for any more: no block and no slot is held, ten times of ten. The next gateway
    starts meanwhile."""
    chaos = random.Random(9)
    for attempt in range(10):
        body = site.body(prompt_tokens(LONG_TOKENS, seed=70 + attempt), stream=True)
        mover = await site.pair.staging(DECODE)
        request = asyncio.ensure_future(site.pair.http.post(f"{site.url}/v1/completions", json=body))
        await site.pair.until_received(chaos.randrange(4_000_000), mover)
        site.pair.kill(GATEWAY)
        await asyncio.gather(request, return_exceptions=True)
        await asyncio.gather(site.pair.until_idle(), site.pair.stack.start([site.gateway]))
    await until(site.sends_away, timeout_s=120)


async def test_a_lost_control_connection_costs_no_prefill(site: Site) -> None:
    """It is made anew while the cache goes on coming in; the remote prefill is used."""
    prompt, alone = await site.pair.clear_prompt(LONG_TOKENS, 62, ANSWER_TOKENS)
    async with WireTap(site.pair.config.engines[PREFILL].kv) as tap:
        mover = await site.pair.staging(DECODE)
        answering = asyncio.ensure_future(remote_through(site.pair, prompt, tap.address))
        await site.pair.until_received(1_000_000, mover)
        tap.cut_control()
        answer = await answering
    assert answer.transfer["ok"] is True
    assert_exact(answer.tokens, alone.tokens)
    await site.pair.until_idle()


async def test_a_flipped_byte_is_healed(site: Site) -> None:
    """A byte changed on the way fails its checksum; the frame is sent again and the cache is used."""
    prompt, alone = await site.pair.clear_prompt(3000, 54, ANSWER_TOKENS)
    control = site.pair.config.engines[PREFILL].kv
    async with WireTap(control, flip_after_bytes=200_000) as tap:
        answer = await remote_through(site.pair, prompt, tap.address)
        assert tap.has_flipped
    assert answer.transfer["ok"] is True
    assert_exact(answer.tokens, alone.tokens)
    await site.pair.until_idle()


async def remote_through(pair: EnginePair, prompt: Sequence[int], address: str, prefilling: str = PREFILL) -> Answer:
    """A remote prefill whose decode side dials ``address`` instead of the prefill engine's."""
    common = {"transfer_id": pair.salt(), "secret": "s", "timeout_s": 100}
    prefill = {"prfaas": {"role": "prefill", **common}}
    decode = {"prfaas": {"role": "decode", "remote": address, **common}}
    _, answer = await asyncio.gather(
        pair.complete(prefilling, prompt, 1, cache_salt=pair.salt(), kv_transfer_params=prefill),
        pair.complete(DECODE, prompt, ANSWER_TOKENS, cache_salt=pair.salt(), kv_transfer_params=decode),
    )
    return answer


async def test_a_wrong_secret_gets_nothing(site: Site) -> None:
    """A decode side that does not know the secret computes its prompt itself."""
    prompt, alone = await site.pair.clear_prompt(900, 55, ANSWER_TOKENS)
    common = {"transfer_id": site.pair.salt(), "timeout_s": 3}
    remote = site.pair.config.engines[PREFILL].kv
    _, answer = await asyncio.gather(
        site.pair.complete(
            PREFILL, prompt, 1, kv_transfer_params={"prfaas": {"role": "prefill", "secret": "right", **common}}
        ),
        site.pair.complete(
            DECODE,
            prompt,
            ANSWER_TOKENS,
            cache_salt=site.pair.salt(),
            kv_transfer_params={"prfaas": {"role": "decode", "secret": "wrong", "remote": remote, **common}},
        ),
    )
    assert answer.transfer["ok"] is False
    assert_exact(answer.tokens, alone.tokens)
    await site.pair.until_idle()


async def test_a_cache_crosses_while_it_is_computed(site: Site) -> None:
    """Some of it is here when the prefill ends. How much, engine and mover settle between them; benchmarks tell."""
    _, headers = await site.ask(prompt_tokens(20_000, seed=63))
    assert headers["x-prfaas-outcome"] == "remote"
    assert int(headers["x-prfaas-early-bytes"]) > 0


async def test_prefill_engine_killed_after_its_prefill(site: Site) -> None:
    """Once the cache is here, the answer streams on without the prefill engine."""
    prompt = prompt_tokens(3000, seed=59)
    alone = await site.pair.alone(prompt, 201)
    body = site.body([*prompt, alone.tokens[0]], stream=True, max_tokens=200, min_tokens=200)
    tokens: list[int] = []
    async with site.pair.http.post(f"{site.url}/v1/completions", json=body) as response:
        async for line in response.content:
            if line.startswith(b"data: {"):
                tokens += json.loads(line[6:])["choices"][0]["token_ids"]
                if len(tokens) == 1:
                    site.pair.kill(PREFILL)
    assert_exact(tuple(tokens), alone.tokens[1:])


async def test_prefill_engine_gone_before_the_request(site: Site) -> None:
    """With the prefill engine dead the gateway answers from this site, exactly."""
    prompt, alone = await site.pair.clear_prompt(3000, 57, ANSWER_TOKENS)
    answer, headers = await site.ask(prompt)
    assert headers.get("x-prfaas-outcome") != "remote"
    assert_exact(answer.tokens, alone.tokens)


def uncompiled(service: Service) -> Service:
    """The same engine ready a minute sooner: what is started again here has been seen compiled, and not forked."""
    command = forked(service.command)
    return replace(service, command=replace(command, argv=(*command.argv, "--enforce-eager")))


async def test_a_restarted_prefill_engine_is_used_again(site: Site) -> None:
    """Once it is back, long prompts are prefilled there again, exactly, without restarting anything here."""
    await site.pair.stack.start([uncompiled(site.pair.services[PREFILL])])
    await until(site.sends_away, timeout_s=120)
    prompt, alone = await site.pair.clear_prompt(3000, 58, ANSWER_TOKENS)
    answer, headers = await site.ask(prompt)
    assert headers["x-prfaas-outcome"] == "remote"
    assert_exact(answer.tokens, alone.tokens)
    await site.pair.until_idle()


@dataclass(frozen=True)
class Stranger:
    """Another prefill engine, of other weights, beside the one that the gateway knows.

    Attributes:
        pair: the engines as they are, and this one by its name.
    """

    pair: EnginePair
    service: Service

    def unless_started(self) -> list[Service]:
        return [] if any(child.name == STRANGER for child in self.pair.stack.children) else [self.service]


@pytest.fixture(scope="module")
def stranger(site: Site) -> Stranger:
    """Not started. It listens where the decode engine may dial a tap, of which there is none by then."""
    config, other = site.pair.config, tiny_model("qwen3_next", seed=1)
    tree = config.model_dump(mode="json", by_alias=True)
    place = {"url": f"http://127.0.0.1:{free_ports(0)[1]}", "kv": tapped(config.engines[PREFILL].kv)}
    tree["engines"][STRANGER] = {**tree["engines"][PREFILL], **place}
    known = parse_config(tree)
    args = serve_args("qwen3_next", CHUNK_TOKENS)
    service = engine_service(replace_model(known, other, {}), STRANGER, None, args, {}, site.pair.records)
    return Stranger(replace(site.pair, config=known), service)


async def test_decode_engine_killed_during_its_load(site: Site, stranger: Stranger) -> None:
    """The prefill engine is back at no block and no slot within the lease, whenever it happens; a new one is used."""
    chaos = random.Random(11)
    mover = await site.pair.staging(DECODE)
    request = asyncio.ensure_future(site.ask(prompt_tokens(LONG_TOKENS, seed=90)))
    await site.pair.until_received(chaos.randrange(4_000_000), mover)
    site.pair.kill(DECODE)
    await asyncio.gather(request, return_exceptions=True)
    await site.pair.until_idle([PREFILL])
    # Each start keeps one core busy, so there is room for two; the stranger is for the next test.
    await site.pair.stack.start([uncompiled(site.pair.services[DECODE]), *stranger.unless_started()])
    # The gateway first compares its tokens with those of the new engine.
    await until(site.sends_away, timeout_s=120)


async def test_another_model_is_refused_with_the_field_and_both_values(site: Site, stranger: Stranger) -> None:
    """A prefill engine with other weights is turned down at the handshake; the answer is computed here."""
    await site.pair.stack.start(stranger.unless_started())
    config = stranger.pair.config
    prompt, alone = await site.pair.clear_prompt(900, 60, ANSWER_TOKENS)
    answer = await remote_through(stranger.pair, prompt, config.engines[STRANGER].kv, STRANGER)
    assert answer.transfer["ok"] is False
    assert_exact(answer.tokens, alone.tokens)
    transfer_id = answer.transfer["transfer_id"]
    report = await site.pair.reports.wait(config.engines[DECODE].kv, transfer_id, "s", timeout_s=5)
    assert "weights" in report.reason
    await site.pair.until_idle()


async def test_prefill_engine_killed_during_its_prefill(site: Site) -> None:
    """The decode side hears the silence, computes the prompt itself and answers exactly."""
    prompt, alone = await site.pair.clear_prompt(LONG_TOKENS, 56, ANSWER_TOKENS)
    mover = await site.pair.staging(DECODE)
    request = asyncio.ensure_future(site.ask(prompt))
    await site.pair.until_received(1_000_000, mover)
    site.pair.kill(PREFILL)
    answer, headers = await request
    assert headers["x-prfaas-outcome"] == "recomputed"
    assert_exact(answer.tokens, alone.tokens)
