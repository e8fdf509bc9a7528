"""A second gateway before a fleet's local engines, which has them play the roles that a test orders."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prfaas.launch.local import free_ports
from tests.engine.fleet import LOCAL, Fleet
from tests.engine.pair import until
from tests.engine.site import Site

STEERED = "steered-gateway"
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


@asynccontextmanager
async def convertible_site(fleet: Fleet, folder: Path) -> AsyncIterator[Convertible]:
    """Start the gateway, and stop it; the fleet's own one has nothing to do meanwhile."""
    engines = dict(fleet.whole["engines"])
    for name in LOCAL:
        engines[name] = {**engines[name], "roles": ["decode"], "convertible": True}
    tree = {
        **fleet.whole,
        "gateway": {**fleet.whole["gateway"], "port": free_ports(0)[0]},
        "engines": engines,
        "controller": {"mode": "on", "interval_s": 0.1, "min_prefill_engines": 0},
    }
    orders = folder / "orders.json"
    orders.write_text("{}", encoding="utf-8")
    before = await Site.before(fleet.pair, folder, tree, ("tests.engine.steered_gateway", str(orders)), STEERED)
    try:
        site = Convertible(before.pair, before.url, before.gateway, before.path, orders)
        await site.until_roles(edge_0="decode", edge_1="decode")
        yield site
    finally:
        fleet.pair.kill(STEERED)
