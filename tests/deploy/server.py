"""A real Prometheus for a test."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.ports import free_port


def program(name: str) -> str:
    """Where it is. Without it the test is skipped, or fails where PRFAAS_NEED_PROMETHEUS says that it is."""
    found = shutil.which(name)
    if found is None:
        reason = f"{name} is missing: apt-get install prometheus"
        (pytest.fail if os.environ.get("PRFAAS_NEED_PROMETHEUS") else pytest.skip)(reason)
    return str(found)


@dataclass(frozen=True)
class Prometheus:
    """One that runs."""

    url: str
    client: aiohttp.ClientSession

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """The vector now, or as one element the scalar. Raises ValueError with Prometheus' words."""
        async with self.client.post(f"{self.url}/api/v1/query", data={"query": expression}) as answer:
            told = await answer.json()
        if told["status"] != "success":
            raise ValueError(f"{expression}: {told['error']}")
        result: list[dict[str, Any]] = told["data"]["result"]
        return result

    async def targets(self) -> list[dict[str, Any]]:
        """What it scrapes, and how that goes."""
        async with self.client.get(f"{self.url}/api/v1/targets") as answer:
            active: list[dict[str, Any]] = (await answer.json())["data"]["activeTargets"]
        return active


@contextlib.asynccontextmanager
async def running_prometheus(config: Mapping[str, Any], folder: Path) -> AsyncIterator[Prometheus]:
    """One with this configuration, on loopback, with its data in the folder; ended with the block."""
    file, port = folder / "prometheus.yml", free_port()
    file.write_text(yaml.safe_dump(dict(config)))
    flags = (
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    )
    with (folder / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(program("prometheus"), *flags, stdout=log, stderr=log)
    try:
        async with aiohttp.ClientSession() as client:
            started = Prometheus(f"http://127.0.0.1:{port}", client)
            await _until_ready(started, process, folder)
            yield started
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _until_ready(started: Prometheus, process: asyncio.subprocess.Process, folder: Path) -> None:
    """The test's timeout is the bound."""
    while True:
        if process.returncode is not None:
            raise RuntimeError((folder / "prometheus.log").read_text()[-2000:])
        with contextlib.suppress(aiohttp.ClientError):
            async with started.client.get(f"{started.url}/-/ready") as answer:
                if answer.status == 200:
                    return
        await asyncio.sleep(0.1)  # no event of another process tells when it listens
