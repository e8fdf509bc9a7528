"""What `prfaas link test` does: asks every engine of the site, measures from one, and shows both."""

import asyncio
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

from rich.text import Text

from prfaas.commands.exits import FAILED, FINE
from prfaas.commands.figures import UNKNOWN, rate, seconds, share
from prfaas.commands.output import can_redraw, console, print_json
from prfaas.commands.tables import Cell, Column, fitting
from prfaas.config import Config, LinkConfig
from prfaas.errors import ConfigError, TransferFailed
from prfaas.transport.probe import ProbeOrder, describe, dialer_to, probe

GBPS = 125e6
"""Bytes a second of a gigabit a second."""
COLUMNS = (
    Column("engine"),
    Column("at", 80),
    Column("RTT", is_number=True),
    Column("clock", 70, is_number=True),
    Column("measured", is_number=True),
    Column("of configured", 50, is_number=True),
    Column("sent again", 60, is_number=True),
    Column("problem", is_text=True),
)


@dataclass(frozen=True, slots=True)
class Order:
    """What is tested, as the command line has it."""

    config: Config
    site: str
    to: str | None
    engine: str | None
    seconds: float
    max_bytes: int
    connections: int
    at_least: float


@dataclass(frozen=True, slots=True)
class Tested:
    """One engine of the site.

    Attributes:
        kv: where its caches are had.
        rtt_s: the shortest of some round trips, None when it did not answer.
        clock_ahead_s: its machine's clock minus this one's.
        goodput_bytes_s: what was measured, None where nothing was.
        share: of the configured bandwidth.
        received_bytes: of noise.
        retransmit_rate: share of the segments that were sent again; 0 over gRPC, where nobody knows.
        problem: why it did not answer, or could not be measured; empty when all went well.
    """

    engine: str
    kv: str
    rtt_s: float | None = None
    clock_ahead_s: float | None = None
    goodput_bytes_s: float | None = None
    share: float | None = None
    received_bytes: int = 0
    retransmit_rate: float | None = None
    problem: str = ""


async def test_link(order: Order, *, as_json: bool) -> int:
    """Test it, and show what came of it. Returns the exit code.

    Raises:
        ConfigError: there is no such link, or no such engine.
    """
    link = _link(order)
    names = _engines(order, link)
    screen = console(stderr=True)
    is_seen = can_redraw(screen) and not as_json
    with screen.status(f"{len(names)} engines of {link.source} ...") if is_seen else nullcontext() as status:
        tested = await asyncio.gather(*(_asked(order.config, link.target, name) for name in names))
        answering = [at for at, each in enumerate(tested) if not each.problem]
        if answering:
            at = answering[0]
            if status is not None:
                status.update(f"noise from {names[at]} for {order.seconds:g} s ...")
            tested[at] = await _measured(order, link, tested[at])
    return _shown(order, link, tested, as_json=as_json)


def _link(order: Order) -> LinkConfig:
    to = order.to or order.config.gateway.site
    found = next((each for each in order.config.links if (each.source, each.target) == (order.site, to)), None)
    if found is None:
        known = ", ".join(f"{each.source} → {each.target}" for each in order.config.links) or "none"
        raise ConfigError(f"no link leads from {order.site} to {to}; there are: {known} (links, --to)")
    return found


def _engines(order: Order, link: LinkConfig) -> list[str]:
    """Those whose caches cross the link."""
    names = list(order.config.engines_at(link.source, "prefill"))
    if order.engine is not None and order.engine not in names:
        raise ConfigError(f"--engine {order.engine}: the engines of {link.source} that prefill are {', '.join(names)}")
    return [order.engine] if order.engine is not None else names


async def _asked(config: Config, site: str, name: str) -> Tested:
    kv = config.engines[name].kv
    try:
        answer = await describe(dialer_to(config, site, name))
    except TransferFailed as error:
        return Tested(name, kv, problem=str(error))
    return Tested(name, kv, answer.rtt_s, answer.clock_ahead_s)


async def _measured(order: Order, link: LinkConfig, asked: Tested) -> Tested:
    decode = next(iter(order.config.engines_at(link.target, "decode")), "")
    wanted = ProbeOrder(order.seconds, order.max_bytes, order.connections, decode)
    try:
        probed = await probe(dialer_to(order.config, link.target, asked.engine), wanted)
    except TransferFailed as error:
        return Tested(asked.engine, asked.kv, asked.rtt_s, asked.clock_ahead_s, problem=str(error))
    return Tested(
        asked.engine,
        asked.kv,
        asked.rtt_s,
        asked.clock_ahead_s,
        probed.goodput_bytes_s,
        probed.goodput_bytes_s / (link.bandwidth_gbps * GBPS),
        probed.received_bytes,
        probed.retransmit_rate,
    )


def _shown(order: Order, link: LinkConfig, tested: list[Tested], *, as_json: bool) -> int:
    if as_json:
        print_json(_document(link, tested))
    else:
        screen = console()
        limit = f", each engine limited to {link.rate_limit_gbps:g}" if link.rate_limit_gbps else ""
        screen.print(f"{link.source} → {link.target}: {link.bandwidth_gbps:g} Gbit/s configured{limit}")
        screen.print(fitting(COLUMNS, map(_row, tested), screen.width))
    measured = [each.share for each in tested if each.share is not None]
    if not measured:
        problem = next((each.problem for each in tested if each.problem), f"no engine of {link.source} prefills")
        print(f"prfaas: {link.source} → {link.target} could not be measured: {problem}", file=sys.stderr)
        return FAILED
    if measured[0] < order.at_least:
        print(f"prfaas: {share(measured[0])} of the bandwidth, less than {share(order.at_least)}", file=sys.stderr)
        return FAILED
    return FINE


def _document(link: LinkConfig, tested: list[Tested]) -> Mapping[str, Any]:
    """Seconds and bytes."""
    return {
        "from": link.source,
        "to": link.target,
        "bandwidth_bytes_s": link.bandwidth_gbps * GBPS,
        "rate_limit_bytes_s": link.rate_limit_gbps * GBPS if link.rate_limit_gbps else None,
        "transport": link.transport,
        "engines": [asdict(each) for each in tested],
    }


def _row(each: Tested) -> tuple[Cell, ...]:
    return (
        each.engine,
        each.kv,
        seconds(each.rtt_s),
        _ahead(each.clock_ahead_s),
        rate(each.goodput_bytes_s),
        share(each.share),
        UNKNOWN if each.retransmit_rate is None else f"{each.retransmit_rate:.2%}",
        Text(each.problem, "red"),
    )


def _ahead(clock_s: float | None) -> str:
    if clock_s is None:
        return UNKNOWN
    return ("-" if clock_s < 0 else "+") + seconds(abs(clock_s))
