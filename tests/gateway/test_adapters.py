"""LoRA adapters as users of vLLM know them: a name that requests give as their model."""

from typing import Any

import numpy as np
import openai
import pytest

from prfaas.fleet.block_hash import ContentKeys
from prfaas.fleet.prompt_hasher import PromptHasher
from prfaas.gateway.api_request import MAX_NAMED, ApiRequest
from prfaas.prefix import CacheGroup, PrefixChange, PrefixGeometry, PrefixUpdate
from tests.gateway.fakes import Stand, eventually, stand
from tests.gateway.stub_engine import hold_remote_answer_local, refuse
from tests.gateway.test_passthrough import BODIES, MESSAGES
from tests.gateway.test_remote import USED

FR, DE = "fr", "acme/de:v2"
ADAPTERS = {FR: "/adapters/fr", DE: "/adapters/de"}
WAY = (4, bytes(32))
GEOMETRY = PrefixGeometry(4, 4, bytes(32), (CacheGroup(0, "full", 4),))
ROOMY = {"name": "tiny", "path": "/nowhere", "max_model_len": 1_000, "adapters": ADAPTERS}
WORDS = 60
"""More than the threshold allows to be computed here."""


async def placed(running: Stand, words: int, model: str) -> tuple[str, str]:
    """Where a prompt of so many tokens was prefilled, and why."""
    async with await running.chat(words, model=model) as answer:
        assert answer.status == 200, await answer.text()
    decision = await running.ended()
    return decision.placement, "; ".join(decision.reasons)


async def test_they_are_listed_as_vllm_lists_them() -> None:
    """Each with its parent and its root; names may contain slashes."""
    async with (
        stand(adapters=ADAPTERS) as running,
        openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="-") as client,
    ):
        models = [model async for model in client.models.list()]
        one = await client.models.retrieve(DE)
    roots: Any = {model.id: (model.root, model.parent) for model in models}  # type: ignore[attr-defined]
    assert roots == {"tiny": ("/nowhere", None), FR: ("/adapters/fr", "tiny"), DE: ("/adapters/de", "tiny")}
    assert one.id == DE


async def test_every_endpoint_takes_their_names() -> None:
    """The engine gets the name as it came, for it knows the adapters by the same."""
    bodies = {
        "/v1/chat/completions": {"messages": MESSAGES},
        "/v1/completions": {"prompt": "hi"},
        "/tokenize": {"prompt": "hi"},
        **BODIES,
    }
    async with stand(adapters=ADAPTERS) as running:
        for path, body in bodies.items():
            async with running.client.post(running.url + path, json={**body, "model": DE}) as answer:
                assert answer.status == 200, (path, await answer.text())
        assert {call.body["model"] for call in running.edge.calls} == {DE}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/tokenize"])
async def test_an_unknown_one_is_told_what_there_is(path: str) -> None:
    async with stand(adapters=ADAPTERS) as running:
        body = {"model": "it", "messages": MESSAGES, "input": "hi", "prompt": "hi"}
        async with running.client.post(running.url + path, json=body) as answer:
            assert answer.status == 404
            error = (await answer.json())["error"]
        assert (error["code"], error["param"]) == ("model_not_found", "model")
        assert error["message"] == "The model 'it' does not exist. There is 'tiny', 'fr', 'acme/de:v2'."
        assert running.edge.calls == []


async def test_a_long_list_of_them_is_cut() -> None:
    async with stand(adapters={f"a{at}": "/a" for at in range(MAX_NAMED + 4)}) as running:
        async with running.client.get(f"{running.url}/v1/models/it") as answer:
            message = (await answer.json())["error"]["message"]
        assert message.endswith("'a18' and 5 more.")


async def test_a_remote_prefill_names_the_adapter_to_both_engines() -> None:
    """The same transfer, computed with the same adapter."""
    async with stand(adapters=ADAPTERS) as running:
        running.reports.default = USED
        assert (await placed(running, WORDS, FR))[0] == "remote"
        prefill, decode = await running.cloud.call(0), await running.edge.call(0)
        assert prefill.body["model"] == decode.body["model"] == FR
        assert prefill.params["prfaas"]["transfer_id"] == decode.params["prfaas"]["transfer_id"]


async def test_what_the_model_has_cached_is_no_hit_for_an_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor the other way round, nor for another adapter: the keys are vLLM's, with name and path."""
    # A feed that fails makes the index forget its engine: here once, at the start.
    monkeypatch.setattr("prfaas.gateway.prefix_watch.RETRY_S", 600.0)
    async with stand(adapters=ADAPTERS) as running:
        running.reports.default = USED
        index = running.services.prefixes.index
        content = " ".join(["word"] * WORDS)
        ids = (await running.tokenizer.tokens_of(ApiRequest("completions", {"prompt": content}))).ids
        assert ids is not None
        for cached, key in (("tiny", None), (FR, (FR, "/adapters/fr"))):
            index.apply("edge-0", PrefixUpdate(GEOMETRY, 1_000, is_reset=True))
            tokens = np.frombuffer(ids.packed, np.uint32)
            chain = PromptHasher().hash(tokens, ContentKeys(adapter=key), [WAY]).chains[WAY].tolist()
            index.apply("edge-0", PrefixUpdate(changes=(PrefixChange(0, True, chain),)))
            where = {model: (await placed(running, WORDS, model))[0] for model in ("tiny", FR, DE)}
            assert where == {model: "local" if model == cached else "remote" for model in where}


async def test_what_was_sent_for_one_is_not_guessed_for_another() -> None:
    """Engines without a feed: a guess keeps adapters apart, too."""
    async with stand(adapters=ADAPTERS, model=ROOMY) as running:
        running.reports.default = USED
        assert (await placed(running, 600, FR))[0] == "remote"
        assert (await running.ended()).uncached_tokens == 600
        assert (await placed(running, 600, DE))[0] == "remote"
        assert (await running.ended()).uncached_tokens == 600
        await placed(running, 600, FR)
        assert (await running.ended()).uncached_tokens == 600 - 512


@pytest.mark.parametrize("there", [{}, {FR: "/elsewhere/fr"}], ids=["none", "other path"])
async def test_a_prefill_engine_without_the_adapter_gets_none_of_its_prompts(
    there: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """They stay here, and say why; those of the model go there as ever. The log names what is missing, once."""
    async with stand(adapters=ADAPTERS) as running:
        running.reports.default = USED
        running.cloud.adapters = there
        await restarted(running, "cloud-0")
        placement, reasons = await placed(running, WORDS, FR)
        assert placement == "local"
        assert "no healthy prefill engine in a linked site has the adapter fr" in reasons
        assert (await placed(running, WORDS, "tiny"))[0] == "remote"
        what = "has the adapter fr from another path" if there else "lacks the adapter fr"
        assert caplog.text.count(f"engine cloud-0 {what}") == 1


async def test_without_a_decode_engine_that_has_the_adapter_it_is_refused() -> None:
    """In words that say that another time may be better: engines are restarted one after the other."""
    async with stand(adapters=ADAPTERS) as running:
        running.edge.adapters = {DE: ADAPTERS[DE]}
        await restarted(running, "edge-0")
        async with await running.chat(3, model=FR) as answer:
            assert answer.status == 503
            assert answer.headers["retry-after"] == "1"
            assert (await answer.json())["error"]["message"] == "No engine has this model now; try again."
        async with await running.chat(3, model=DE) as answer:
            assert answer.status == 200
        running.edge.adapters = ADAPTERS
        await restarted(running, "edge-0")
        async with await running.chat(3, model=FR) as answer:
            assert answer.status == 200


async def restarted(running: Stand, engine: str) -> None:
    """The engine goes away and comes back, and the gateway has seen both."""
    fleet, stub = running.services.fleet, running.edge if engine == "edge-0" else running.cloud
    stub.health_status = 500
    await eventually(lambda: not fleet.status(engine).is_healthy)
    stub.health_status = 200
    await eventually(lambda: fleet.status(engine).is_healthy)


async def test_a_prefill_engine_that_does_not_know_the_adapter_after_all_costs_a_recompute() -> None:
    """It answers 404 if the adapter was unloaded there meanwhile: the answer comes from here, nobody is blamed."""
    async with stand(adapters=ADAPTERS) as running:
        running.cloud.script = refuse(404)
        running.edge.script = hold_remote_answer_local
        async with await running.chat(WORDS, model=FR) as answer:
            assert answer.status == 200
        decision = await running.ended()
        assert [(each.stage, each.outcome) for each in decision.tries] == [
            ("prefill", "refused"),
            ("decode", "answered"),
        ]
        assert running.edge.calls[-1].params.get("prfaas") is None
        assert running.services.fleet.breakers.of("cloud-0").failures == 0


async def test_an_engine_that_cannot_tell_its_adapters_is_not_well() -> None:
    """As one whose tokens cannot be compared: nothing meets it until it can. Without adapters nobody asks."""
    async with stand(adapters=ADAPTERS) as running:
        running.cloud.models_status = 500
        fleet = running.services.fleet
        running.cloud.health_status = 500
        await eventually(lambda: "500" in fleet.status("cloud-0").problem)
        running.cloud.health_status = 200
        await eventually(lambda: "its adapters are not known" in fleet.status("cloud-0").problem)
        running.cloud.models_status = 200
        await eventually(lambda: fleet.status("cloud-0").is_healthy)
    async with stand() as running:
        running.cloud.models_status = 500
        await restarted(running, "cloud-0")
