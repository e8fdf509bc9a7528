"""A fleet of real engines for tests: two in the gateway's site, one in each of two others, and a gateway process.

The caches of the other sites come through taps in the test's own process, which stand for the links.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from prfaas.config import parse_config
from prfaas.launch.local import free_ports, local_tree
from tests.engine import refusals
from tests.engine.models import tiny_model
from tests.engine.pair import engine_service, serve_args, started, until
from tests.engine.site import GATEWAY, Site
from tests.engine.wire_tap import WireTap, tapped

SITES = {"edge-0": "edge", "edge-1": "edge", "cloud-0": "cloud", "far-0": "far"}
LOCAL, REMOTE = ("edge-0", "edge-1"), ("cloud-0", "far-0")
MIDDLEWARE = ("--middleware", "tests.engine.refusals.Refusals")


@dataclass
class Fleet(Site):
    """The engines behind their gateway, and ways to break what is between them.

    Attributes:
        whole: the gateway's configuration at its start.
        taps: the link from each engine of another site.
        orders: see ``refusals``.
        tree: the configuration now; change it and have it read again.
        alive: engines that run, in the order of ``SITES``.
    """

    whole: Mapping[str, Any]
    taps: dict[str, WireTap]
    orders: Path
    tree: dict[str, Any]
    alive: list[str] = field(default_factory=lambda: list(SITES))

    def refuse(self, engines: Sequence[str], *statuses: int) -> None:
        """Let these, ``LOCAL`` or ``REMOTE``, answer their next requests so, whichever is asked."""
        refusals.order_refusals(self.orders, "+".join(engines), statuses)

    def kill(self, engine: str) -> None:
        """SIGKILL it with all its processes."""
        self.pair.kill(engine)
        self.alive.remove(engine)

    async def revive(self, engines: Sequence[str], count: int) -> None:
        """Have at least so many of these run: those that were killed are started again."""
        dead = [name for name in engines if name not in self.alive]
        started = dead[: max(0, count - (len(engines) - len(dead)))]
        if started:
            await self.pair.stack.start([self.pair.services[name] for name in started])
            self.alive = [name for name in SITES if name in (*self.alive, *started)]
        await self.until_well([name for name in engines if name in self.alive])

    async def reduce(self, engines: Iterable[str], count: int) -> None:
        """Have so many of these run, as the gateway knows: the others are killed."""
        killed = [name for name in engines if name in self.alive][count:]
        for name in killed:
            self.kill(name)

        async def are_missed() -> bool:
            told = await self.overview()
            return not any(told[name]["state"] == "healthy" for name in killed)

        await until(are_missed)

    async def restore(self) -> None:
        """Undo what a test did, whether or not it came to its end, but for killing. Engines that run are left with no
        block, no slot and no transfer."""
        refusals.withdraw(self.orders)
        for tap in self.taps.values():
            tap.up()
            tap.flow()
        if self.tree != self.whole:
            self.tree = dict(self.whole)
            await self.reload()
        for name, told in (await self.overview()).items():
            if told.get("state") in ("draining", "drained"):
                await self.order(f"engines/{name}/undrain")
        await self.pair.until_idle(self.alive)

    async def command(self, *words: str) -> str:
        """What the ``prfaas`` command says."""
        argv = (sys.executable, "-m", "prfaas.cli", *words, "--config", str(self.path))
        process = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said = (await process.communicate())[0].decode().strip()
        assert process.returncode == 0, said
        return said

    async def order(self, path: str) -> dict[str, Any]:
        """What the command does, at once: its program takes seconds to start on a busy machine."""
        async with self.pair.http.post(f"{self.url}/prfaas/{path}") as response:
            told: dict[str, Any] = await response.json()
            assert response.status == 200, told
            return told

    async def drain(self, engine: str) -> tuple[str, int]:
        """Have it take nothing new; its state, and how many requests run on it."""
        told = await self.order(f"engines/{engine}/drain")
        return told["state"], told["inflight"]

    def write(self) -> None:
        """The tree to the gateway's file."""
        self.path.write_text(yaml.safe_dump(self.tree), encoding="utf-8")

    async def reload(self) -> str:
        """Have the changed tree followed; what has changed."""
        self.write()
        changes: str = (await self.order("reload"))["changes"]
        return changes

    def hang_up(self) -> None:
        """The same by signal."""
        self.write()
        os.killpg(self.pair.child(GATEWAY).pid, signal.SIGHUP)

    async def overview(self) -> dict[str, dict[str, Any]]:
        """Engines by name and links by their source, as the gateway sees them."""
        async with self.pair.http.get(f"{self.url}/prfaas/engines") as response:
            told = await response.json()
        return {each.get("name") or each["from"]: each for each in (*told["engines"], *told["links"])}

    async def until_well(self, names: Sequence[str]) -> None:
        """Wait until the gateway takes these engines for well, and not for draining."""

        async def are_well() -> bool:
            told = await self.overview()
            return all(name in told and told[name]["state"] == "healthy" for name in names)

        await until(are_well)


def fleet_tree() -> tuple[dict[str, Any], dict[str, str]]:
    """The configuration, and where the engines of other sites listen behind their taps."""
    first, second = (free_ports(0) for _ in range(2))
    while any(abs(one - other) < 2 for one in first for other in second):
        second = free_ports(0)
    one, two = first[1:], second[1:]
    ports = zip(SITES, (one[:2], two[:2], one[2:], two[2:]), strict=True)
    listens = {name: (http, f"127.0.0.1:{kv}") for name, (http, kv) in ports}
    tree = local_tree(tiny_model("qwen3_next"), first)
    tree["sites"] = {site: {"tls": "off"} for site in SITES.values()}
    tree["links"] = [{"from": site, "to": "edge", "bandwidth_gbps": 10} for site in ("cloud", "far")]
    tree["engines"] = {
        name: {
            "site": SITES[name],
            "url": f"http://127.0.0.1:{http}",
            "kv": kv if name in LOCAL else tapped(kv),
            "roles": ["prefill", "decode"] if name in LOCAL else ["prefill"],
        }
        for name, (http, kv) in listens.items()
    }
    return tree, {name: listens[name][1] for name in REMOTE}


def convertible(tree: dict[str, Any]) -> dict[str, Any]:
    """The same fleet, whose local engines may change their roles: each can do what either does."""
    local = {name: {**tree["engines"][name], "convertible": True} for name in LOCAL}
    return {**tree, "engines": {**tree["engines"], **local}}


def apart(tree: dict[str, Any]) -> dict[str, Any]:
    """The same fleet with prefill and decode apart within the gateway's site."""
    engines = {**tree["engines"]}
    for name, role in zip(LOCAL, ("decode", "prefill"), strict=True):
        engines[name] = {**engines[name], "roles": [role]}
    return {**tree, "engines": engines}


@asynccontextmanager
async def fleet_of(folder: Path, chunk_tokens: int = 512) -> AsyncIterator[Fleet]:
    """Start everything, and stop it."""
    tree, behind = fleet_tree()
    # Of the engines one decodes and one prefills, so that the former dials the latter, and both may change that.
    config = parse_config(convertible(apart(tree)))
    orders = folder / "orders"
    orders.mkdir()
    connector: dict[str, dict[str, Any]] = {name: {"listen": listen} for name, listen in behind.items()}
    connector["edge-1"] = {"peers": [config.engines[name].kv for name in REMOTE]}
    services = {}
    for name in SITES:
        args = (*serve_args("qwen3_next", chunk_tokens), *MIDDLEWARE)
        service = engine_service(config, name, None, args, connector.get(name, {}), folder)
        env = {
            **service.command.env,
            refusals.FOLDER: str(orders),
            refusals.GROUP: "+".join(LOCAL if name in LOCAL else REMOTE),
        }
        services[name] = replace(service, command=replace(service.command, env=env))
    async with AsyncExitStack() as stack:
        taps = {name: await stack.enter_async_context(WireTap(listen)) for name, listen in behind.items()}
        pair = await stack.enter_async_context(started(parse_config(tree), services, folder, chunk_tokens))
        site = await Site.before(pair, folder, tree)
        fleet = Fleet(pair, site.url, site.gateway, site.path, tree, taps, orders, dict(tree))
        await fleet.until_well(list(SITES))
        yield fleet
