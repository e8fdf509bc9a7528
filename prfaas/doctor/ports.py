"""The ports of a site's own servers on this machine: free, or held by those servers; and the names of all hosts."""

import asyncio
import errno
import ipaddress
from collections.abc import Iterator, Mapping, Sequence

from prfaas.config.problems import WILDCARD
from prfaas.doctor.asking import ask_http, ask_mover, is_gateway
from prfaas.doctor.finding import Checked, Finding, finding
from prfaas.doctor.network import addresses, is_address, is_here, listening_error, reach
from prfaas.doctor.scope import Listener, Scope


async def check_names(scope: Scope) -> Checked:
    """Whether all hosts that matter here are known by name."""
    hosts: dict[str, str] = {}
    for name in scope.asked_engines:
        for each in scope.listeners_of(name):
            hosts.setdefault(each.host, each.key)
    if scope.is_gateways:
        hosts.setdefault(scope.config.gateway.host, "gateway.host")
    found = dict(zip(hosts, await asyncio.gather(*map(addresses, hosts)), strict=True))
    findings = [
        finding(
            "names.unknown",
            hosts[host],
            f"{host}: is not resolved here",
            f"getent hosts {host}; then DNS or /etc/hosts",
        )
        for host, ips in found.items()
        if not ips
    ]
    findings += [*judge_loopback(scope, found), *judge_elsewhere(scope, found)]
    return Checked(tuple(findings), tuple(f"{host}: {', '.join(ips) or 'unknown'}" for host, ips in found.items()))


def judge_loopback(scope: Scope, found: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    """Whether a name by which others dial this site leads to the loopback interface here. An address is meant so, and
    localhost: a tunnel ends there."""
    keys = {each.host: each.key for each in reversed(scope.dialed_listeners)}
    for host, key in keys.items():
        ips = found.get(host, ())
        if host == "localhost" or is_address(host) or not ips:
            continue
        if all(ipaddress.ip_address(ip).is_loopback for ip in ips):
            what = f"{host}: leads to {', '.join(ips)} here, and other sites dial it"
            way_out = f"in /etc/hosts let {host} lead to an address of this machine at which the other site reaches it"
            yield finding("names.loopback", key, what, way_out)


def judge_elsewhere(scope: Scope, found: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    """Whether a site of engines alone has none on this machine: its host has to know itself by the name that others
    dial, which behind network address translation leads to an address that the host does not have."""
    hosts = {engine.kv_address[0] for engine in scope.own_engines.values()}
    leading = {host: found[host] for host in sorted(hosts) if found.get(host)}
    if scope.is_gateways or not leading or any(map(is_here, leading.values())):
        return
    host, ips = next(iter(leading.items()))
    what = f"none of its engines is on this machine: {host} leads to {', '.join(ips)}"
    way_out = f"{own_address(host)}; if none is to run here, prfaas doctor on the machine of one"
    yield finding("names.elsewhere", f"sites.{scope.site}", what, way_out)


def own_address(host: str) -> str:
    """How a host that is to be listened on comes to be this machine's."""
    if is_address(host):
        return "give an address of this machine, or a name that leads to one here"
    return f"let {host} lead to an address of this machine here, in /etc/hosts: its own, not the public one"


async def check_ports(scope: Scope) -> Checked:
    """The site's listeners on this machine; those of other machines are dialed with their engines."""
    found = await asyncio.gather(*(_look_at(scope, each) for each in scope.own_listeners))
    return Checked(
        tuple(each for problem, _ in found for each in problem),
        tuple(line for _, line in found if line),
    )


async def _look_at(scope: Scope, port: Listener) -> tuple[list[Finding], str]:
    number = listening_error(await addresses(port.host), port.port)
    if number is None:  # another machine's: it is dialed with its engine
        return [], ""
    is_ours = number == errno.EADDRINUSE and await _is_ours(scope, port)
    problem = judge_port(port, number, is_ours=is_ours)
    state = "free" if not number else "held by our own" if is_ours else "not usable"
    return problem, f"{port.key}: {port.host}:{port.port}: {state}"


def judge_port(port: Listener, number: int, *, is_ours: bool) -> list[Finding]:
    """What the error number of listening there means for whoever is to listen."""
    at = f"{port.host}:{port.port}"
    look = f"ss -ltnp 'sport = :{port.port}' tells who; end that, or give another port"
    if not number or is_ours:
        return []
    if number == errno.EADDRINUSE:
        return [finding("ports.taken", port.key, f"{at}: another program listens there", look)]
    if number == errno.EACCES:
        way_out = "give a port above 1023, or the capability CAP_NET_BIND_SERVICE"
        return [finding("ports.forbidden", port.key, f"{at}: this user may not listen there", way_out)]
    what = f"{at}: cannot be listened on ({errno.errorcode.get(number, number)})"
    return [finding("ports.forbidden", port.key, what, own_address(port.host))]


async def _is_ours(scope: Scope, port: Listener) -> bool:
    """Whether the server that the configuration wants there is there already."""
    match port.serves:
        case "gateway":
            scheme = "https" if scope.config.gateway.https else "http"
            host = "127.0.0.1" if port.host in WILDCARD else port.host
            return await is_gateway(f"{scheme}://{f'[{host}]' if ':' in host else host}:{port.port}")
        case "engine":
            answer = await ask_http(scope.config.engines[port.engine].url, None)
            return bool(answer.vllm) or answer.is_tls or answer.is_late
    mover = await ask_mover(scope.config, scope.site, port.engine)
    if mover.answer is None:
        # One that does not admit us, or hangs, is a mover all the same; what is wrong is told with the engines.
        return mover.reason in ("identity", "old", "late") and not (await reach(port.host, port.port)).problem
    description = mover.answer.description
    return description.data_port == port.port if port.serves == "data" else description.engine_id == port.engine
