"""What the engines have cached decides where a prompt goes, and shows."""

import numpy as np

from prfaas.fleet.block_hash import ContentKeys
from prfaas.fleet.prompt_hasher import PromptHasher
from prfaas.gateway.api_request import ApiRequest
from prfaas.prefix import CacheGroup, FeedCounts, PrefixChange, PrefixGeometry, PrefixUpdate
from tests.gateway.fakes import Stand, eventually, stand
from tests.gateway.test_remote import USED

GEOMETRY = PrefixGeometry(4, 4, bytes(32), (CacheGroup(0, "full", 4), CacheGroup(1, "recurrent", 4)))
WORDS = 60
"""More than the threshold allows to be computed here."""


async def stored(running: Stand, words: int, blocks: int, salt: str | None = None) -> PrefixUpdate:
    """The first blocks of a chat prompt of so many words, with a state at the end of the last one."""
    request = ApiRequest("chat", {"messages": [{"role": "user", "content": " ".join(["word"] * words)}]})
    ids = (await running.tokenizer.tokens_of(request)).ids
    assert ids is not None
    way = (4, GEOMETRY.root)
    hashes = PromptHasher().hash(np.frombuffer(ids.packed, np.uint32), ContentKeys(salt), [way])
    chain = hashes.chains[way][:blocks].tolist()
    return PrefixUpdate(changes=(PrefixChange(0, True, chain), PrefixChange(1, True, chain[-1:])))


async def decision_of(running: Stand, **fields: object) -> tuple[str, int | None, str]:
    async with await running.chat(WORDS, **fields) as answer:
        assert answer.status == 200
        await answer.read()
    decision = await running.ended()
    return decision.placement, decision.uncached_tokens, "; ".join(decision.reasons)


async def test_a_long_prompt_that_is_cached_here_stays_here() -> None:
    async with stand() as running:
        running.reports.default = USED
        placement, uncached, _ = await decision_of(running)
        assert (placement, uncached) == ("remote", WORDS)
        index = running.services.prefixes.index
        index.apply("edge-0", PrefixUpdate(GEOMETRY, 1_000, is_reset=True))
        placement, uncached, _ = await decision_of(running)
        assert (placement, uncached) == ("remote", WORDS)
        index.apply("edge-0", await stored(running, WORDS, blocks=14))
        placement, uncached, reasons = await decision_of(running)
        assert (placement, uncached) == ("local", WORDS - 56)
        assert "4 of 60 prompt tokens are not cached" in reasons
        placement, uncached, _ = await decision_of(running, cache_salt="another")
        assert (placement, uncached) == ("remote", WORDS)


async def test_how_an_engine_is_known_is_a_metric() -> None:
    async with stand() as running:
        running.services.prefixes.index.apply("edge-0", PrefixUpdate(GEOMETRY, 1_000, is_reset=True))
        async with running.client.get(f"{running.url}/metrics") as answer:
            text = await answer.text()
        assert 'prfaas_prefix_knowledge{engine="edge-0",knowledge="exact"} 1.0' in text
        assert 'prfaas_prefix_knowledge{engine="cloud-0",knowledge="guessed"} 1.0' in text
        assert 'prfaas_prefix_knowledge{engine="cloud-0",knowledge="exact"} 0.0' in text


async def test_what_goes_wrong_on_the_way_of_cache_events_is_a_metric() -> None:
    """Once an engine has told its counts, and as it last told them."""
    async with stand() as running:
        kv = running.services.config.engines["edge-0"].kv
        running.reports.prefixes_of[kv] = [
            PrefixUpdate(GEOMETRY, 1_000, is_reset=True, counts=FeedCounts()),
            PrefixUpdate(counts=FeedCounts(gaps=3, garbage=2, losses=1)),
        ]
        told = running.services.metrics.registry.get_sample_value
        await eventually(lambda: told("prfaas_prefix_feed_gaps_total", {"engine": "edge-0"}) == 3)
        async with running.client.get(f"{running.url}/metrics") as answer:
            text = await answer.text()
        assert 'prfaas_prefix_feed_garbage_total{engine="edge-0"} 2.0' in text
        assert 'prfaas_prefix_feed_losses_total{engine="edge-0"} 1.0' in text
        assert 'prfaas_prefix_feed_gaps_total{engine="cloud-0"}' not in text


async def test_the_feed_of_an_engine_reaches_the_index() -> None:
    async with stand() as running:
        kv = running.services.config.engines["edge-0"].kv
        running.reports.prefixes_of[kv] = [PrefixUpdate(GEOMETRY, 1_000, is_reset=True)]
        index = running.services.prefixes.index
        await eventually(lambda: index.state("edge-0").is_exact)
