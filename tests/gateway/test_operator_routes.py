"""Who may drain and reload, how the command line asks for it, and what is kept of it."""

import asyncio
import json
from pathlib import Path

import pytest

from prfaas.errors import ConfigError, GatewayUnavailable, PrfaasError
from prfaas.gateway.operator_client import OperatorClient, url_of
from prfaas.gateway.operator_key import read_key
from prfaas.gateway.operator_state import OperatorState, OperatorStore
from tests.gateway.fakes import config_for, eventually
from tests.gateway.wide import wide


async def test_unknown_engine_names_the_known_ones() -> None:
    """A slip of the hand is told, and drains nothing."""
    async with wide() as running:
        status, told = await running.post("/prfaas/engines/edge-9/drain")
        assert status == 404
        assert "edge-0, edge-1, cloud-0, moon-0" in told["error"]["message"]


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded", "origin"])
async def test_requests_for_others_are_no_operators(header: str) -> None:
    """What a proxy passes on, or a page in a browser sends, is refused without a key."""
    async with wide() as running:
        for path in ("/prfaas/engines/edge-0/drain", "/prfaas/reload"):
            assert (await running.post(path, **{header: "10.0.0.1"}))[0] == 403
        assert not running.services.fleet.status("edge-0").is_draining


async def test_with_a_key_only_the_key_opens(tmp_path: Path) -> None:
    """A key in a file is asked for also on this machine, and the command line's client gives it."""
    key = tmp_path / "key"
    key.write_text("a-long-enough-key\n")
    async with wide(operator_key_file=str(key)) as running:
        for given in ({}, {"authorization": "Bearer a-long-enough-kex"}, {"authorization": "Basic a-long-enough-key"}):
            assert (await running.post("/prfaas/engines/edge-0/drain", **given))[0] == 401
        client = OperatorClient.of(running.services.config, running.url)
        told = await asyncio.to_thread(client.post, "/prfaas/engines/edge-0/drain")
        assert told["state"] == "drained"


@pytest.mark.parametrize(
    "path", ["/metrics", "/prfaas/status", "/prfaas/decisions", "/prfaas/requests/none", "/prfaas/plan"]
)
async def test_a_key_guards_what_only_tells(tmp_path: Path, path: str) -> None:
    """Without tenants, too: who sets a key expects that it is asked for. Where there is none all may read."""
    key = tmp_path / "key"
    key.write_text("a-long-enough-key\n")
    operator, known = {"authorization": "Bearer a-long-enough-key"}, 404 if "requests" in path else 200
    async with wide(operator_key_file=str(key)) as guarded, wide() as unguarded:
        for running, headers, status in ((guarded, {}, 401), (guarded, operator, known), (unguarded, {}, known)):
            async with running.client.get(running.url + path, headers=headers) as answer:
                assert answer.status == status


async def test_client_tells_refusals_in_the_gateways_words() -> None:
    """What the gateway says comes through, a wrong configuration as such; a gateway that is not there is told too."""
    async with wide() as running:
        client = OperatorClient.of(running.services.config, running.url)
        with pytest.raises(PrfaasError, match="no engine 'edge-9'"):
            await asyncio.to_thread(client.post, "/prfaas/engines/edge-9/drain")
        running.tree["gateway"]["port"] = 8001
        with pytest.raises(ConfigError, match=r"gateway\.port: changed, which needs a restart"):
            await asyncio.to_thread(client.post, "/prfaas/reload")
    with pytest.raises(GatewayUnavailable, match="cannot be asked"):
        await asyncio.to_thread(client.post, "/prfaas/reload")


async def test_state_file_reaches_other_processes_and_the_next_start(tmp_path: Path) -> None:
    """Two gateways on one file: what one is told the other does, drains and reloads; a third begins with it."""
    file = tmp_path / "state.json"
    async with wide(state_file=file) as one, wide(state_file=file) as other:
        other.tree["policy"]["threshold_tokens"] = 20
        await one.post("/prfaas/engines/edge-0/drain")
        await one.post("/prfaas/reload")
        await eventually(lambda: other.services.fleet.status("edge-0").is_draining)
        assert (await other.answered_by(10)) == "edge-1"
        await other.post("/prfaas/engines/edge-0/undrain")
        await other.post("/prfaas/engines/cloud-0/drain")
        await eventually(lambda: not one.services.fleet.status("edge-0").is_draining)
    async with wide(state_file=file) as third:
        assert [each.name for each in third.services.fleet.statuses() if each.is_draining] == ["cloud-0"]


def test_state_of_another_is_refused_and_not_overwritten(tmp_path: Path) -> None:
    """A file that is something else is told with its path, and stays as it is."""
    path = tmp_path / "state.json"
    path.write_text(json.dumps({"drained": 7}))
    store = OperatorStore(path)
    with pytest.raises(ConfigError, match=r"gateway\.state_file: .*not a state of ours"):
        store.update(lambda state: OperatorState(frozenset({"a"})))
    assert json.loads(path.read_text()) == {"drained": 7}


@pytest.mark.parametrize("content", ["short", "", "two long words here", "schlüssel-lang-genug"])
def test_weak_key_stops_the_start(tmp_path: Path, content: str) -> None:
    """A key that can be guessed, or that no header can carry, is refused with its file."""
    path = tmp_path / "key"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"gateway\.operator_key_file: "):
        read_key(path)


def test_wildcard_host_is_asked_on_the_loopback_interface() -> None:
    """The command line finds a gateway that listens everywhere on this machine."""
    config = config_for("http://127.0.0.1:9", "http://127.0.0.2:9")
    for host, shown in (("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("fe80::1", "[fe80::1]"), ("gate", "gate")):
        gateway = config.gateway.model_copy(update={"host": host})
        changed = config.model_copy(update={"gateway": gateway})
        assert url_of(changed) == f"http://{shown}:8000"
