"""Engines of one site change their roles while they run, and every answer is exact."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from prfaas.config import parse_config
from prfaas.launch.local import free_ports, local_tree
from tests.engine.models import prompt_tokens, tiny_model
from tests.engine.pair import engine_service, serve_args, started, until
from tests.engine.site import ANSWER_TOKENS, Site

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

LOCAL = ("edge-0", "edge-1")
CHUNK_TOKENS = 512
PROMPT_TOKENS = 500
"""More than a decode engine computes itself beside an engine that prefills."""
RUNNING_TOKENS = 800
"""Of an answer during which its engine is to be converted."""
CONVERSION_TIMEOUT_S = 60.0
"""For a drain on a busy machine."""


@dataclass
class Convertible(Site):
    """Two engines that begin with decoding, behind a gateway that converts them as ordered."""

    orders: Path

    def order(self, **roles: str) -> None:
        """From now on engines, with ``_`` for ``-``, are to play these roles."""
        new = self.orders.with_suffix(".new")
        new.write_text(json.dumps({name.replace("_", "-"): role for name, role in roles.items()}), encoding="utf-8")
        new.rename(self.orders)

    async def engines(self) -> dict[str, dict[str, Any]]:
        async with self.pair.http.get(f"{self.url}/prfaas/engines") as response:
            return {each["name"]: each for each in (await response.json())["engines"]}

    async def until_roles(self, **roles: str) -> None:
        """Wait until the engines play these roles and take requests."""
        wanted = {name.replace("_", "-"): ([role], "healthy") for name, role in roles.items()}

        async def have_them() -> bool:
            told = await self.engines()
            return {name: (told[name]["roles"], told[name]["state"]) for name in wanted} == wanted

        await until(have_them, CONVERSION_TIMEOUT_S)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Convertible]:
    folder = tmp_path_factory.mktemp("conversion")
    first, second = free_ports(0), free_ports(0)
    while any(abs(one - other) < 2 for one in first for other in second):
        second = free_ports(0)
    tree = local_tree(tiny_model("qwen3_next"), first)
    for name, (http, kv) in zip(LOCAL, (first[1:3], second[1:3]), strict=True):
        place = {"site": "edge", "url": f"http://127.0.0.1:{http}", "kv": f"127.0.0.1:{kv}"}
        tree["engines"][name] = {**place, "roles": ["decode"], "convertible": True}
    tree["controller"] = {"mode": "on", "interval_s": 0.1, "min_prefill_engines": 0}
    # The other site's engine is in the file only: what it would prefill stays here.
    config = parse_config(tree)
    args = serve_args("qwen3_next", CHUNK_TOKENS)
    services = {name: engine_service(config, name, None, args, {}, folder) for name in LOCAL}
    orders = folder / "orders.json"
    orders.write_text("{}", encoding="utf-8")
    async with started(config, services, folder, CHUNK_TOKENS) as pair:
        before = await Site.before(pair, folder, tree, ("tests.engine.steered_gateway", str(orders)))
        site = Convertible(before.pair, before.url, before.gateway, before.path, orders)
        await site.until_roles(edge_0="decode", edge_1="decode")
        yield site


async def answered(site: Convertible, prompt: list[int], alone: tuple[int, ...]) -> tuple[str, str | None]:
    """Ask, compare the tokens with those of one engine alone; which engine decoded, and which one prefilled for it."""
    tokens, headers = await site.stream(prompt, len(alone))
    assert tokens == alone
    decision = await site.decision(headers)
    if decision["prefill"] is not None:
        assert (decision["report"]["ok"], decision["report"]["tokens"]) == (True, len(prompt) - 1)
    return decision["decode"], decision["prefill"]


async def test_engines_change_their_roles_and_back_without_a_restart(site: Convertible) -> None:
    """A decode engine ends its answer, prefills for the other one, decodes again, and has the other one prefill for it:
    the same processes all the time, exact tokens before, during and after, and nothing held at the end."""
    prompt, clear = await site.pair.clear_prompt(PROMPT_TOKENS, 1, ANSWER_TOKENS)
    running = prompt_tokens(100, seed=6)
    alone = (await site.pair.alone(running, RUNNING_TOKENS)).tokens
    processes = [site.pair.child(name).pid for name in LOCAL]

    decoding, prefilling = await answered(site, prompt, clear.tokens)
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

    tokens, _ = await site.stream(running, RUNNING_TOKENS, convert)
    assert tokens == alone
    [one] = converted
    [other] = {*LOCAL} - {one}
    one_key, other_key = one.replace("-", "_"), other.replace("-", "_")
    await site.until_roles(**{one_key: "prefill", other_key: "decode"})
    assert await answered(site, prompt, clear.tokens) == (other, one)

    site.order(**{one_key: "decode"})
    await site.until_roles(**{one_key: "decode", other_key: "decode"})
    decoding, prefilling = await answered(site, prompt, clear.tokens)
    assert prefilling is None

    site.order(**{other_key: "prefill"})
    await site.until_roles(**{one_key: "decode", other_key: "prefill"})
    assert await answered(site, prompt, clear.tokens) == (one, other)

    assert [site.pair.child(name).pid for name in LOCAL] == processes
    assert await site.metric("prfaas_controller_conversions_total", outcome="converted") == 3
    await site.pair.until_idle(LOCAL)
