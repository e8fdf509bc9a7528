"""The engines of a site, and those whose caches come here: who answers, how it runs, and whether they fit together."""

import asyncio
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from prfaas.doctor.asking import HttpAnswer, MoverAnswer, ask_http, ask_mover
from prfaas.doctor.engine_flags import judge_facts, judge_http
from prfaas.doctor.finding import Checked, Finding, finding
from prfaas.doctor.network import Reached, addresses, is_here, reach
from prfaas.doctor.scope import Listener, Scope
from prfaas.transport.probe import Answer
from prfaas.wire.control import Hello, Refused
from prfaas.wire.description import Description
from prfaas.wire.session import VERSIONS, Identity, answer

PING_BYTES, PING6_BYTES = 1_472, 1_452
"""What fills a packet of 1,500 bytes beside the headers of IP (20 bytes, or 40 of IPv6) and ICMP (8)."""
CLOCK_S = 2.0
"""Between two clocks: less is what machines without a time server drift in a day."""


@dataclass(frozen=True)
class Seen:
    """One engine as it was seen.

    Attributes:
        is_here: its host is this machine.
        reached: its ports, by what serves there; only those that this site may have to reach.
        http: what its API said, None where it was not asked.
        mover: what its mover said.
    """

    is_here: bool
    reached: Mapping[Listener, Reached] = field(default_factory=dict)
    http: HttpAnswer | None = None
    mover: MoverAnswer | None = None

    @property
    def answer(self) -> Answer | None:
        """The mover's description."""
        return self.mover.answer if self.mover else None


async def check_engines(scope: Scope, tls: ssl.SSLContext | None) -> Checked:
    """Ask all at once, and judge each and every pair."""
    names = list(scope.asked_engines)
    seen = dict(zip(names, await asyncio.gather(*(look_at(scope, name, tls) for name in names)), strict=True))
    findings = [each for name in names for each in judge_engine(scope, name, seen[name])]
    findings += judge_agreement(scope, {name: each.answer for name, each in seen.items() if each.answer})
    return Checked(tuple(findings), tuple(_said(name, each) for name, each in seen.items()))


async def look_at(scope: Scope, name: str, tls: ssl.SSLContext | None) -> Seen:
    """Dial an engine's ports, then ask whoever answers."""
    config, is_own = scope.config, name in scope.own_engines
    ips = await addresses(config.engines[name].kv_address[0])
    if not ips:  # told with the names
        return Seen(is_here=False)
    may_send = is_own or scope.is_gateways
    ports = [each for each in scope.listeners_of(name) if may_send or each.serves != "engine"]
    if is_own or name in config.linked_prefill_engines(scope.site, "grpc"):
        ports = [each for each in ports if each.serves != "data"]  # nobody here dials it
    reached = dict(zip(ports, await asyncio.gather(*(reach(each.host, each.port) for each in ports)), strict=True))
    answering = {port.serves for port, each in reached.items() if not each.problem}
    http = await ask_http(config.engines[name].url, tls) if "engine" in answering else None
    mover = await ask_mover(config, scope.site, name) if "mover" in answering else None
    return Seen(is_here(ips), reached, http, mover)


def judge_engine(scope: Scope, name: str, seen: Seen) -> Iterator[Finding]:
    """What is wrong with one engine."""
    yield from _judge_ports(scope, name, seen)
    where = f"engines.{name}"
    if seen.http is not None and seen.http.problem:
        reason = "identity" if seen.http.is_tls else "late" if seen.http.is_late else "silent"
        what = f"{scope.config.engines[name].url}: {seen.http.problem}"
        yield _no_answer(scope, name, seen, f"{where}.url", what, reason)
    elif seen.http is not None:
        yield from judge_http(scope.config, name, seen.http)
    if seen.mover is not None:
        yield from _judge_mover(scope, name, seen, seen.mover)


def _judge_ports(scope: Scope, name: str, seen: Seen) -> Iterator[Finding]:
    """One finding where nothing runs at all, else one for each port that does not answer."""
    problems = {port: each for port, each in seen.reached.items() if each.problem}
    refused = [port for port, each in problems.items() if each.is_refused]
    if len(refused) == len(seen.reached) and refused:
        ports = ", ".join(f"{port.host}:{port.port}" for port in refused)
        # In its own site it comes with the rest, also in another container or on the host next door.
        code = "engines.not_started" if seen.is_here or name in scope.own_engines else "engines.down"
        yield finding(code, f"engines.{name}", f"nobody listens at {ports}", _start(scope, name))
        return
    for port, each in problems.items():
        way_out = f"let {port.host}:{port.port} pass from here: firewalls, routes, the address in the configuration"
        if each.is_refused:
            way_out = (
                f"{_start(scope, name)}; if it runs, a firewall rejects it, or it was started with another address"
            )
        yield finding("ports.unreachable", port.key, f"{port.host}:{port.port}: {each.problem}", way_out)


def _judge_mover(scope: Scope, name: str, seen: Seen, mover: MoverAnswer) -> Iterator[Finding]:
    engine = scope.config.engines[name]
    where = f"engines.{name}.kv"
    if mover.answer is None:
        yield _no_answer(scope, name, seen, where, f"{engine.kv}: {mover.problem}", mover.reason)
        return
    description = mover.answer.description
    if description.engine_id != name:
        what = f"{engine.kv}: engine {description.engine_id!r} answers there"
        yield finding("engines.other", where, what, "give each engine its own kv endpoint, the same at all sites")
    yield from judge_facts(name, description.facts)
    ahead_s = mover.answer.clock_ahead_s
    if abs(ahead_s) > CLOCK_S + mover.answer.rtt_s and not seen.is_here:
        what = f"its clock is {abs(ahead_s):.1f} s {'ahead' if ahead_s > 0 else 'behind'}"
        yield finding("engines.clock", f"engines.{name}", what, "timedatectl set-ntp true on both machines")


def _no_answer(scope: Scope, name: str, seen: Seen, where: str, what: str, reason: str) -> Finding:
    """Of a port that takes connections and does not say what it should."""
    match reason:
        case "identity":
            return finding("engines.identity", where, what, _tls_way_out(scope))
        case "old":
            return finding("engines.old", where, what, "upgrade prfaas there")
        case "late":
            return finding("engines.silent", where, what, _late_way_out(where, seen))
    return finding("engines.down", where, what, _start(scope, name))


def judge_agreement(scope: Scope, answers: Mapping[str, Answer]) -> Iterator[Finding]:
    """Pairs of engines between which caches would pass: by the rules of their own handshake."""
    config = scope.config
    decoding = config.engines_able(scope.site, "decode")
    for prefill in {**scope.sources, **config.neighbour_prefill_engines(scope.site)}:
        for decode in decoding:
            if prefill == decode or not {prefill, decode} <= set(answers):
                continue
            if refused := _refused(answers[prefill].description, answers[decode].description):
                yield _disagreement(prefill, decode, refused)


def _refused(prefill: Description, decode: Description) -> Refused | None:
    """What the prefill engine would answer the decode engine; None for a welcome."""
    if not set(prefill.versions) & set(decode.versions):
        return Refused("protocol version", str(prefill.versions), str(decode.versions))
    us = Identity(prefill.engine_id, prefill.epoch, prefill.slot_bytes, prefill.fingerprint)
    # Versions are settled: both may be newer than this doctor.
    hello = Hello(VERSIONS, decode.engine_id, decode.epoch, decode.slot_bytes, decode.fingerprint)
    reply = answer(us, hello, 1, b"")
    return reply if isinstance(reply, Refused) else None


def _disagreement(prefill: str, decode: str, refused: Refused) -> Finding:
    same = {
        "weights": "another revision of the model: give both the same folder or --revision",
        "model_config": "another configuration of the model: give both the same folder or --revision",
        "vllm": "another vLLM: install the same on both",
    }
    return finding(
        "engines.fingerprint",
        f"engines.{prefill} and engines.{decode}",
        f"{refused.field} is {refused.ours!r} at {prefill} and {refused.theirs!r} at {decode}",
        same.get(refused.field, "start both with the same model, vLLM and cache settings"),
    )


def _start(scope: Scope, name: str) -> str:
    return f"prfaas engine -c FILE --name {name} on its machine (site {scope.config.engines[name].site})"


def _late_way_out(where: str, seen: Seen) -> str:
    """Connections are made with small packets, and answers come in large ones."""
    restart = "look at the engine's log, and restart it"
    if seen.is_here:
        return restart
    ip = next((each.ip for port, each in seen.reached.items() if port.key == where), "")
    size_bytes = PING6_BYTES if ":" in ip else PING_BYTES
    return (
        f"ping -M do -s {size_bytes} {ip}; if that is lost, sysctl net.ipv4.tcp_mtu_probing=1 on both machines or a "
        f"smaller MTU, ip link set DEVICE mtu 1400; else {restart}"
    )


def _tls_way_out(scope: Scope) -> str:
    return f"prfaas certs FOLDER --site {scope.site} and for the other site, with one authority; see docs/security.md"


def _said(name: str, seen: Seen) -> str:
    """One line on an engine."""
    parts = [f"vLLM {seen.http.vllm}"] if seen.http and seen.http.vllm else []
    if told := seen.answer:
        parts.append(f"connector at {1000 * told.rtt_s:.1f} ms, clock {told.clock_ahead_s:+.3f} s")
    return f"{name}: {', '.join(parts) or 'does not answer'}"
