"""A configuration of two sites on this machine, movers and HTTP servers in place of engines, and certificates."""

import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from prfaas.config import Config, parse_config, tls_settings
from prfaas.doctor.finding import Checked, Finding
from prfaas.transport.settings import TlsSettings
from prfaas.types import Fingerprint
from tests.ports import free_port
from tests.transport.movers import CONFIG, TinyEngine

MODEL = "tiny"
GOOD_FACTS = {
    "prefix_caching": "on",
    "prefix_hash": "sha256_cbor",
    "kv_events": "zmq",
    "hybrid_cache_manager": "on",
    "hybrid_cache": "on",
    "retention_interval": "384",
    "block_tokens": "384",
    "conv_state_layout": "DS",
    "load_failure_policy": "recompute",
}
"""Of an engine as `prfaas engine` starts it, with checkpoints."""


def free_pair() -> int:
    """A port that is free, as is the next one."""
    while True:
        port = free_port()
        try:
            with socket.create_server(("127.0.0.1", port + 1)):
                return port
        except OSError:
            continue


def site_tree(folder: Path | None = None, **engine: Any) -> dict[str, Any]:
    """The configuration as plain values, with free ports; certificates of ``folder``, plain text without one."""

    def tls(site: str) -> Any:
        if folder is None:
            return "off"
        return {"ca": f"{folder}/ca.crt", "cert": f"{folder}/{site}.crt", "key": f"{folder}/{site}.key"}

    def one(site: str, role: str) -> dict[str, Any]:
        url, kv = f"http://127.0.0.1:{free_port()}", f"127.0.0.1:{free_pair()}"
        return {"site": site, "url": url, "kv": kv, "roles": [role], **engine}

    return {
        "model": {"name": MODEL, "path": "tiny/model", "max_model_len": 1000},
        "gateway": {"port": free_port(), "site": "edge"},
        "sites": {"edge": {"tls": tls("edge")}, "cloud": {"tls": tls("cloud")}},
        "engines": {"edge-0": one("edge", "decode"), "cloud-0": one("cloud", "prefill")},
        "links": [{"from": "cloud", "to": "edge", "bandwidth_gbps": 0.001}],
    }


def sites(folder: Path | None = None) -> Config:
    """The same, checked."""
    return parse_config(site_tree(folder))


@contextmanager
def mover(
    config: Config,
    name: str,
    *,
    says: str = "",
    facts: Mapping[str, str] | None = None,
    fields: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Iterator[TinyEngine]:
    """A real mover where the configuration has an engine's; ``says`` is what it calls itself, ``folder`` has other
    certificates than the configuration's."""
    engine = config.engines[name]
    tls = tls_settings(config, engine.site)
    settings = msgspec.convert(tls, TlsSettings) if tls else None
    if settings and folder:
        site = engine.site
        settings = replace(settings, ca=f"{folder}/ca.crt", cert=f"{folder}/{site}.crt", key=f"{folder}/{site}.key")
    running = TinyEngine(
        says or name,
        listen=engine.kv,
        data_port=engine.kv_address[1] + 1,
        serves_tcp=True,
        tls=settings,
        facts=GOOD_FACTS if facts is None else facts,
        fingerprint=Fingerprint({**CONFIG.fingerprint.fields, **(fields or {})}, CONFIG.fingerprint.layers),
    )
    try:
        yield running
    finally:
        running.close()


@dataclass
class StubVllm:
    """What the HTTP stub answers."""

    version: str = "0.32.0"
    model: str = MODEL
    max_model_len: int | None = 1000
    adapters: tuple[str, ...] = ()


@asynccontextmanager
async def http(config: Config, *names: str, stub: StubVllm | None = None) -> AsyncIterator[None]:
    """vLLM's version and models where the configuration has these engines' APIs."""
    told = stub or StubVllm()

    async def version(request: web.Request) -> web.Response:
        return web.json_response({"version": told.version})

    async def models(request: web.Request) -> web.Response:
        cards: list[dict[str, Any]] = [{"id": told.model, "max_model_len": told.max_model_len, "object": "model"}]
        cards += [{"id": name, "parent": told.model, "root": name} for name in told.adapters]
        return web.json_response({"object": "list", "data": cards})

    app = web.Application()
    app.router.add_get("/version", version)
    app.router.add_get("/v1/models", models)
    runner = web.AppRunner(app)
    await runner.setup()
    for name in names:
        await web.TCPSite(runner, *config.engines[name].address).start()
    try:
        yield
    finally:
        await runner.cleanup()


def codes(checked: Checked | list[Finding] | Iterator[Finding]) -> list[str]:
    """The kinds of what was found, in order."""
    findings = checked.findings if isinstance(checked, Checked) else checked
    return [each.code for each in findings]
