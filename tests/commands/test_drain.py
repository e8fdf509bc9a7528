"""``prfaas drain``, ``undrain`` and ``reload`` against a gateway, and how they find it."""

import asyncio
from pathlib import Path

import pytest

from tests.commands.conftest import Ask
from tests.commands.gateways import config_file
from tests.gateway.fakes import eventually
from tests.gateway.stub_engine import pause_after_first
from tests.gateway.wide import wide
from tests.ports import free_port


async def test_drain_and_undrain(ask: Ask, tmp_path: Path) -> None:
    """A line each, or JSON; the gateway does as it is told."""
    async with wide() as running:
        file = config_file(tmp_path, running)
        told = await ask("drain", "edge-0", "--config", file)
        assert (told.code, told.out) == (0, "edge-0: drained, requests in flight: 0\n")
        assert running.services.fleet.status("edge-0").is_draining
        told = await ask("undrain", "edge-0", "--config", file, "--json")
        assert (told.code, told.json["state"]) == (0, "healthy")
        assert not running.services.fleet.status("edge-0").is_draining


async def test_drain_waits_until_the_engine_is_idle(ask: Ask, tmp_path: Path) -> None:
    """With --wait the command ends with the last request."""
    going_on = asyncio.Event()
    async with wide(without=("edge-1",)) as running:
        running.engines["edge-0"].script = pause_after_first(going_on)
        stream = await running.chat(2, stream=True)
        await stream.content.readany()
        draining = asyncio.create_task(ask("drain", "edge-0", "--wait", "--config", config_file(tmp_path, running)))
        await eventually(lambda: running.services.fleet.status("edge-0").is_draining)
        assert not draining.done()
        going_on.set()
        await stream.read()
        told = await draining
    assert (told.code, told.out) == (0, "edge-0: drained, requests in flight: 0\n")


async def test_drain_that_takes_too_long_fails(ask: Ask, tmp_path: Path) -> None:
    """The engine stays draining, and the line says how it was."""
    async with wide(without=("edge-1",)) as running:
        running.engines["edge-0"].script = pause_after_first(asyncio.Event())
        stream = await running.chat(2, stream=True)
        await stream.content.readany()
        file = config_file(tmp_path, running)
        told = await ask("drain", "edge-0", "--wait", "--timeout-s", "0.3", "--json", "--config", file)
        assert (told.code, told.out) == (1, "")
        assert told.err == "prfaas: not within 0.3 s: edge-0: draining, requests in flight: 1\n"
        stream.close()


async def test_unknown_engine_is_refused(ask: Ask, tmp_path: Path) -> None:
    """Exit code 1, and the names that there are."""
    async with wide() as running:
        told = await ask("drain", "edge-9", "--config", config_file(tmp_path, running))
    assert (told.code, told.out) == (1, "")
    assert "known: edge-0, edge-1, cloud-0, moon-0" in told.err


async def test_reload_tells_changes_and_refusals(ask: Ask, tmp_path: Path) -> None:
    """A configuration that the gateway refuses ends with the code of a wrong configuration."""
    async with wide() as running:
        file = config_file(tmp_path, running)
        del running.tree["engines"]["moon-0"]
        told = await ask("reload", "--config", file, "--json")
        assert (told.code, told.json) == (0, {"changes": "removed moon-0"})
        running.tree["gateway"]["port"] = 8001
        told = await ask("reload", "--config", file)
    assert told.code == 2
    assert told.err.startswith("prfaas: config: gateway.port: changed")


async def test_gateway_that_is_not_there(ask: Ask) -> None:
    """Exit code 3, whichever command asks, in one line with the address."""
    url = f"http://127.0.0.1:{free_port()}"
    for command in (("drain", "a"), ("status",), ("top",), ("decisions",), ("flip", "a", "decode")):
        told = await ask(*command, "--url", url)
        assert told.code == 3, command
        assert told.err.startswith(f"prfaas: the gateway at {url} cannot be asked: ")
        assert len(told.err.splitlines()) == 1


async def test_another_server_is_told(ask: Ask) -> None:
    """An engine has no such routes: no traceback."""
    async with wide() as running:
        told = await ask("drain", "edge-0", "--url", running.engines["edge-0"].url)
    assert told.code in (1, 3)
    assert "is this a gateway of prfaas" in told.err


async def test_the_operators_key(ask: Ask, tmp_path: Path) -> None:
    """From the configuration or from a file that is named; a wrong one is refused, with the option to give it."""
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text("a-long-enough-key")
    wrong.write_text("another-long-key-")
    async with wide(operator_key_file=str(right)) as running:
        assert (await ask("drain", "edge-0", "--config", config_file(tmp_path, running))).code == 0
        assert (await ask("undrain", "edge-0", "--url", running.url, "--key-file", right)).code == 0
        for options in ((), ("--key-file", wrong)):
            told = await ask("drain", "edge-0", "--url", running.url, *options)
            assert told.code == 1
            assert "--key-file" in told.err
        assert not running.services.fleet.status("edge-0").is_draining


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "--config"),
        (("--url", "127.0.0.1:8000"), "http://host:port"),
        (("--url", "http://10.0.0.1:8000", "--key-file", "KEY"), "plain text"),
        (("--url", "http://127.0.0.1:8000", "--key-file", "absent"), "--key-file: absent"),
    ],
)
async def test_wrong_use(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], words: str
) -> None:
    """No gateway is named, no address, or the key would be seen by others: exit code 2, and nobody is asked."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "KEY").write_text("a-long-enough-key")
    told = await ask("drain", "edge-0", *options)
    assert (told.code, len(told.err.splitlines())) == (2, 1)
    assert words in told.err


async def test_where_the_gateway_is_found(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """prfaas.yaml of this folder, or what the environment names."""
    async with wide() as running:
        file = config_file(tmp_path, running)
        monkeypatch.chdir(tmp_path)
        file.rename("prfaas.yaml")
        assert (await ask("undrain", "edge-0")).code == 0
        monkeypatch.chdir("/")
        monkeypatch.setenv("PRFAAS_CONFIG", str(tmp_path / "prfaas.yaml"))
        assert (await ask("undrain", "edge-0")).code == 0
        monkeypatch.delenv("PRFAAS_CONFIG")
        monkeypatch.setenv("PRFAAS_URL", running.url)
        assert (await ask("undrain", "edge-0")).code == 0
