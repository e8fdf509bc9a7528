"""Engines that are reached over https, with certificates that ``prfaas certs`` makes."""

import contextlib
import datetime
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from prfaas.config import TlsConfig
from prfaas.errors import ConfigError, EngineUnavailable
from prfaas.gateway.upstream import Upstream, tls_context
from prfaas.transport.certificates import issue


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Certificates of both sites; the engine's has the host of its URL as well."""
    names = {"edge": ["edge.site.prfaas"], "cloud": ["cloud.site.prfaas", "127.0.0.1"]}
    issue(tmp_path, names, datetime.datetime.now(datetime.UTC), days=1)
    return tmp_path


def edge_files(folder: Path) -> TlsConfig:
    return TlsConfig(ca=str(folder / "ca.crt"), cert=str(folder / "edge.crt"), key=str(folder / "edge.key"))


@contextlib.asynccontextmanager
async def engine(folder: Path) -> AsyncIterator[str]:
    """Answers over TLS to whoever shows a certificate of the authority, as vLLM does with all four --ssl options."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(folder / "ca.crt"))
    tls.load_cert_chain(folder / "cloud.crt", folder / "cloud.key")
    tls.verify_mode = ssl.CERT_REQUIRED

    async def health(_: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.router.add_get("/health", health)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    try:
        yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_gateway_and_engine_know_each_other_by_their_authority(folder: Path) -> None:
    """The site's authority vouches for an https engine, and the gateway has a certificate to show."""
    async with engine(folder) as url, Upstream({"cloud-0": url}, tls_context(edge_files(folder))) as upstream:
        await upstream.probe("cloud-0", 60)


async def test_unknown_authority_is_not_trusted(folder: Path) -> None:
    """Without the site's certificates an engine whose authority nobody knows cannot be reached."""
    async with engine(folder) as url, Upstream({"cloud-0": url}, tls_context(None)) as upstream:
        with pytest.raises(EngineUnavailable, match="cannot be reached"):
            await upstream.probe("cloud-0", 60)


def test_unusable_files_stop_the_start(folder: Path) -> None:
    """Files that are missing are told in one line before anything is served."""
    with pytest.raises(ConfigError, match=r"absent\.crt") as refusal:
        tls_context(edge_files(folder).model_copy(update={"ca": str(folder / "absent.crt")}))
    assert "\n" not in str(refusal.value)
