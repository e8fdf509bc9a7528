"""Names and ports, on real sockets."""

import asyncio
import contextlib
import errno
import socket

import pytest

from prfaas.config import parse_config
from prfaas.doctor import network
from prfaas.doctor.engines import check_engines
from prfaas.doctor.finding import Checked
from prfaas.doctor.network import addresses, binding_error, is_here, reach
from prfaas.doctor.ports import check_names, check_ports, judge_port
from prfaas.doctor.scope import Listener, Scope
from tests.doctor.stage import StubVllm, codes, http, mover, site_tree, sites
from tests.ports import free_port

PORT = Listener("engines.edge-0.url", "127.0.0.1", 8101, "engine", "edge-0")


async def test_names_are_resolved_or_not() -> None:
    """An address is itself, localhost is known, a name of the reserved domain is not, and no name can be too long."""
    assert await addresses("127.0.0.1") == ["127.0.0.1"]
    assert "127.0.0.1" in await addresses("localhost")
    assert await addresses("nobody.invalid") == []
    assert await addresses("x" * 70 + ".invalid") == []


def test_what_is_this_machine() -> None:
    """Loopback is, an address of the documentation's network is not."""
    assert is_here(["192.0.2.1", "127.0.0.1"])
    assert not is_here(["192.0.2.1"])
    assert not is_here([])


def test_a_port_is_free_or_taken() -> None:
    """Looking leaves nothing open: the second look says the same."""
    port = free_port()
    assert [binding_error("127.0.0.1", port) for _ in range(2)] == [0, 0]
    with socket.create_server(("127.0.0.1", port)):
        assert binding_error("127.0.0.1", port) == errno.EADDRINUSE


async def test_a_port_is_reached_or_refused() -> None:
    """Where somebody listens the path's MTU is known; where nobody does that is told apart from silence."""
    port = free_port()
    assert (await reach("127.0.0.1", port)).is_refused
    with socket.create_server(("127.0.0.1", port)):
        reached = await reach("127.0.0.1", port)
    assert (reached.problem, reached.is_refused, reached.ip) == ("", False, "127.0.0.1")
    assert reached.mtu_bytes >= 1_280


async def test_silence_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port whose queue of connections is full answers nothing, as one behind a firewall."""
    monkeypatch.setattr(network, "CONNECT_S", 0.3)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = []
        for _ in range(3):
            waiting.append(socket.socket())
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(("127.0.0.1", port))
        reached = await reach("127.0.0.1", port)
        for sock in waiting:
            sock.close()
    assert not reached.is_refused
    assert "no answer" in reached.problem


async def test_unknown_hosts_are_found() -> None:
    """Each once, with the key that names it; known ones are told with their addresses."""
    tree = site_tree()
    tree["engines"]["cloud-0"] |= {"url": "http://cloud.invalid:8000", "kv": "cloud.invalid:7000"}
    checked = await check_names(Scope(parse_config(tree), "edge"))
    [one] = checked.findings
    assert (one.code, one.where) == ("names.unknown", "engines.cloud-0.url")
    assert "getent hosts cloud.invalid" in one.way_out
    assert "127.0.0.1: 127.0.0.1" in checked.seen
    assert codes(await check_names(Scope(sites(), "edge"))) == []


async def named(monkeypatch: pytest.MonkeyPatch, ips: list[str], site: str, host: str = "cloud.example") -> Checked:
    """The names, where that of the cloud's engine leads there."""
    tree = site_tree()
    tree["engines"]["cloud-0"] |= {"url": f"http://{host}:8102", "kv": f"{host}:7111"}

    async def resolved(host: str) -> list[str]:
        return ips if host == "cloud.example" else ["127.0.0.1"]

    monkeypatch.setattr("prfaas.doctor.ports.addresses", resolved)
    return await check_names(Scope(parse_config(tree), site))


async def test_an_own_name_that_leads_to_loopback_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian has the host's own name at 127.0.1.1: the engine would start, and nobody else would reach it."""
    [one] = (await named(monkeypatch, ["127.0.1.1"], "cloud")).findings
    assert (one.code, one.where) == ("names.loopback", "engines.cloud-0.url")
    assert "/etc/hosts" in one.way_out


@pytest.mark.parametrize(
    ("ips", "site", "host"),
    [
        (["127.0.1.1", "10.0.0.7"], "cloud", "cloud.example"),
        (["127.0.1.1"], "edge", "cloud.example"),  # its end of a tunnel, or a forward
        (["127.0.0.1"], "cloud", "127.0.0.1"),
        (["127.0.0.1"], "cloud", "localhost"),
    ],
)
async def test_loopback_may_be_meant(monkeypatch: pytest.MonkeyPatch, ips: list[str], site: str, host: str) -> None:
    """Beside another address, on the side that dials, and where a tunnel ends."""
    assert "names.loopback" not in codes(await named(monkeypatch, ips, site, host))


async def test_a_site_whose_engines_are_elsewhere_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A public address that is translated on the way: the host does not have it, and cannot listen there."""
    [one] = (await named(monkeypatch, ["192.0.2.1"], "cloud")).findings
    assert (one.code, one.where) == ("names.elsewhere", "sites.cloud")
    assert one.what.endswith("cloud.example leads to 192.0.2.1")
    assert "let cloud.example lead to an address of this machine here, in /etc/hosts" in one.way_out
    assert codes(await named(monkeypatch, ["192.0.2.1", "127.0.0.1"], "cloud")) == []
    assert codes(await named(monkeypatch, ["192.0.2.1"], "edge")) == []


async def test_free_ports_are_fine() -> None:
    """Those of the site and of the gateway; the other site's are not this site's to bind."""
    config = sites()
    checked = await check_ports(Scope(config, "edge"))
    assert checked.findings == ()
    assert [line.rpartition(" ")[2] for line in checked.seen] == ["free"] * 3
    assert "cloud-0" not in " ".join(checked.seen)


async def test_ports_held_by_our_own_servers_are_fine() -> None:
    """An engine that runs already holds its API, its mover's port and the data port."""
    config = sites()
    with mover(config, "cloud-0"):
        async with http(config, "cloud-0"):
            checked = await check_ports(Scope(config, "cloud"))
    assert checked.findings == ()
    assert [line.rpartition(": ")[2] for line in checked.seen] == ["held by our own"] * 3


def hang_up(listener: socket.socket) -> None:
    listener.accept()[0].close()


async def test_a_stranger_on_each_port_is_found() -> None:
    """Whatever accepts connections there and is not the server that the configuration wants."""
    config = sites()
    scope = Scope(config, "edge")
    listeners = [socket.create_server((each.host, each.port)) for each in scope.own_listeners]
    try:
        for each in listeners:  # it hangs up at once, as a server of another kind does
            asyncio.get_running_loop().add_reader(each, hang_up, each)
        checked = await check_ports(scope)
    finally:
        for each in listeners:
            asyncio.get_running_loop().remove_reader(each)
            each.close()
    assert codes(checked) == ["ports.taken"] * 3
    assert {each.where for each in checked.findings} == {each.key for each in scope.own_listeners}
    assert f"sport = :{config.gateway.port}" in checked.findings[0].way_out


async def test_own_servers_that_hang_are_told_with_the_engines_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take connections and do not answer in time; nobody is told to end another program."""
    monkeypatch.setattr("prfaas.doctor.asking.ASK_S", 0.5)
    scope = Scope(sites(), "cloud")
    with contextlib.ExitStack() as hanging:
        for each in scope.own_listeners:
            hanging.enter_context(socket.create_server((each.host, each.port)))
        checked = await check_ports(scope)
        assert codes(await check_engines(scope, None)) == ["engines.silent"] * 2
    assert checked.findings == ()
    assert [line.rpartition(": ")[2] for line in checked.seen] == ["held by our own"] * 3


async def test_another_engine_on_a_port_is_a_stranger() -> None:
    """A mover that calls itself otherwise holds the port of the one that is to start."""
    config = sites()
    with mover(config, "cloud-0", says="cloud-9"):
        checked = await check_ports(Scope(config, "cloud"))
    assert "engines.cloud-0.kv" in [each.where for each in checked.findings if each.code == "ports.taken"]


async def test_a_stub_of_another_kind_is_a_stranger() -> None:
    """Something that speaks HTTP and is no vLLM."""
    config = sites()
    async with http(config, "edge-0", stub=StubVllm(version="")):
        checked = await check_ports(Scope(config, "edge"))
    assert codes(checked) == ["ports.taken"]


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (0, ""),
        (errno.EADDRINUSE, "ports.taken"),
        (errno.EACCES, "ports.forbidden"),
        (errno.EADDRNOTAVAIL, "ports.forbidden"),
    ],
)
def test_why_a_port_cannot_be_listened_on(number: int, code: str) -> None:
    """Taken, not allowed, or no address of this machine: each has its own way out."""
    assert codes(judge_port(PORT, number, is_ours=False)) == ([code] if code else [])
    assert judge_port(PORT, number, is_ours=True) == []
