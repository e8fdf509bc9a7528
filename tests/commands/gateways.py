"""Configuration files of gateways that run on any port, and how commands end."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.gateway.fakes import Stand
from tests.gateway.wide import Wide


@dataclass(frozen=True)
class Told:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def config_file(folder: Path, running: Stand | Wide, **gateway: object) -> Path:
    """The running gateway's configuration, with the port that it has."""
    tree = running.services.config.model_dump(mode="json", by_alias=True, exclude_none=True)
    tree["gateway"] |= {"port": int(running.url.rpartition(":")[2]), **gateway}
    file = folder / "gateway.yaml"
    file.write_text(yaml.safe_dump(tree))
    return file


async def process(*arguments: object, **env: str) -> Told:
    """The command line as a process of its own."""
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "prfaas.cli", *map(str, arguments)),
        env={**os.environ, "PYTHONPATH": ".", **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await started.communicate()
    return Told(started.returncode or 0, out.decode(), err.decode())
