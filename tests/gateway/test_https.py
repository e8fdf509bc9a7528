"""The gateway's own certificate towards clients, and what an operator is warned of."""

import asyncio
import datetime
import ssl
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from prfaas.config import Config
from prfaas.errors import ConfigError
from prfaas.gateway.serve import warn
from prfaas.transport.certificates import issue
from tests.gateway.access.test_tenants import config_with
from tests.gateway.fakes import config_for, stand


def https(folder: Path) -> dict[str, Any]:
    issue(folder, {"edge": ["127.0.0.1"]}, datetime.datetime.now(datetime.UTC), days=1)
    return {"site": "edge", "https": {"cert": str(folder / "edge.crt"), "key": str(folder / "edge.key")}}


async def test_clients_are_answered_over_tls(tmp_path: Path) -> None:
    """With a certificate the port speaks https, which whoever trusts its authority can check."""
    async with stand(gateway=https(tmp_path)) as running:
        url = running.url.replace("http://", "https://")
        trusting = ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
        async with running.client.get(f"{url}/health", ssl=trusting) as answer:
            assert answer.status == 200


async def test_command_line_drains_over_tls(tmp_path: Path) -> None:
    """It believes the certificate in the gateway's own configuration, and no other one."""
    async with stand(gateway=https(tmp_path)) as running:
        tree = running.services.config.model_dump(mode="json", by_alias=True)
        tree["gateway"]["port"] = int(running.url.rpartition(":")[2])
        told = await drain(tmp_path, tree)
        assert told == (0, "edge-0: drained, requests in flight: 0\n")
        assert running.services.fleet.status("edge-0").is_draining
        tree["gateway"]["https"] = https(tmp_path / "other")["https"]
        code, words = await drain(tmp_path, tree)
        assert code == 3
        assert "cannot be asked" in words


async def drain(folder: Path, tree: dict[str, Any]) -> tuple[int | None, str]:
    """``prfaas drain edge-0`` with this configuration: exit code, output."""
    file = folder / "prfaas.yaml"
    file.write_text(yaml.safe_dump(tree))
    argv = (sys.executable, "-m", "prfaas.cli", "drain", "edge-0", "--config", str(file))
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


async def test_unusable_certificate_stops_the_start(tmp_path: Path) -> None:
    """A missing file is told with its key before anything is served."""
    section = {"site": "edge", "https": {"cert": str(tmp_path / "absent.crt"), "key": str(tmp_path / "absent.key")}}
    with pytest.raises(ConfigError, match=r"^gateway\.https: its files cannot be used: "):
        async with stand(gateway=section):
            pass


def listening_on(host: str, config: Config) -> Config:
    return config.model_copy(update={"gateway": config.gateway.model_copy(update={"host": host})})


@pytest.mark.parametrize(
    ("host", "has_tenants", "warning"),
    [
        ("127.0.0.1", False, ""),
        ("localhost", True, ""),
        ("0.0.0.0", False, "no tenants are configured"),
        ("10.0.0.7", True, "plain text"),
    ],
)
def test_operator_is_warned(host: str, has_tenants: bool, warning: str, caplog: pytest.LogCaptureFixture) -> None:
    """Open to others without keys, or with keys in plain text: one line at the start says so."""
    config = config_for("http://127.0.0.1:9", "http://127.0.0.2:9")
    warn(listening_on(host, config_with({"acme": {"keys": [{"env": "ACME"}]}}) if has_tenants else config))
    assert [warning in record.getMessage() for record in caplog.records] == [True] * bool(warning)
