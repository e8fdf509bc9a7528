"""The links over which caches come here: how fast they are, against what the configuration says."""

import asyncio
from collections.abc import Iterator

from prfaas.config import LinkConfig, TlsConfig
from prfaas.doctor.asking import ask_mover
from prfaas.doctor.finding import Checked, Finding, finding, merged
from prfaas.doctor.network import Reached, reach
from prfaas.doctor.scope import Scope
from prfaas.errors import TransferFailed
from prfaas.transport.probe import NothingCame, Probed, ProbeOrder, dialer_to, probe

SLOW_SHARE, FAST_SHARE = 0.7, 2.0
"""Of the configured bandwidth: what TCP makes of a path that others use, too; and what is no error of measuring."""
PROBER_GBPS, PROBER_TLS_GBPS = 20.0, 8.0
"""What one mover and one doctor surely measure, a core each (docs/decisions/031): a link above has at least that."""
LOSSY_SHARE = 0.01
"""Of the segments: CUBIC on a path of 50 ms is below 30 Mb/s a connection then (RFC 9438, 5.1)."""
FAR_S = 0.3
"""Between continents it takes 0.1 to 0.25 s."""
ETHERNET_BYTES = 1_500


async def check_links(scope: Scope, order: ProbeOrder) -> Checked:
    """One after the other: together they would measure each other."""
    return merged([await _measure(scope, link, order) for link in scope.links])


async def _measure(scope: Scope, link: LinkConfig, order: ProbeOrder) -> Checked:
    """The link from the first of its engines that answers."""
    where, config = name_of(link), scope.config
    engines = config.engines_at(link.source, "prefill")
    decoding = next(iter(scope.config.engines_able(scope.site, "decode")), "")
    limited = ProbeOrder(order.duration_s, order.size_bytes, order.connections, decoding)
    # All at once: those of a site behind a firewall are silent for 5 s each. Why is told with the engines.
    asked = await asyncio.gather(*(ask_mover(config, scope.site, name) for name in engines))
    for (name, engine), mover in zip(engines.items(), asked, strict=True):
        if mover.answer is None:
            continue
        rtt_s, path = mover.answer.rtt_s, await reach(*engine.kv_address)
        try:
            probed = await probe(dialer_to(config, scope.site, name), limited)
        except TransferFailed as error:
            return Checked((judge_failure(where, name, error),), (f"{where}: not measured",))
        most_gbps = PROBER_TLS_GBPS if isinstance(config.sites[scope.site].tls, TlsConfig) else PROBER_GBPS
        findings = judge_link(link, probed, rtt_s, path, most_gbps)
        said = _said(where, name, probed, rtt_s, is_limit=wanted_gbps(link) > most_gbps)
        return Checked(tuple(findings), (said,), _figures(where, probed, rtt_s, path))
    what = f"none of {', '.join(engines) or 'its engines'} answers"
    way_out = "mend what is said of these engines, then prfaas doctor again"
    return Checked((finding("links.unmeasured", where, what, way_out),), (f"{where}: not measured",))


def judge_failure(where: str, engine: str, error: TransferFailed) -> Finding:
    """Why a link could not be measured although its engine answers."""
    if isinstance(error, NothingCame):
        way_out = "sysctl net.ipv4.tcp_mtu_probing=1 on both machines, or a smaller MTU: ip link set DEVICE mtu 1400"
        return finding("links.black_hole", where, f"from {engine}: {error}", way_out)
    return finding("links.unmeasured", where, f"from {engine}: {error}", "mend that, then prfaas doctor again")


def wanted_gbps(link: LinkConfig) -> float:
    """What one engine may make of it."""
    return min(link.bandwidth_gbps, link.rate_limit_gbps or link.bandwidth_gbps)


def judge_link(
    link: LinkConfig, probed: Probed, rtt_s: float, path: Reached, most_gbps: float = PROBER_GBPS
) -> Iterator[Finding]:
    """What was measured against what is configured, as far as it can be measured (``most_gbps``)."""
    where, gbps, wanted = name_of(link), probed.goodput_gbps, wanted_gbps(link)
    if gbps < SLOW_SHARE * min(wanted, most_gbps):
        what = f"{gbps:.3g} Gb/s arrive, and {wanted:g} are configured"
        way_out = (
            f"bandwidth_gbps: {gbps:.2g} if that is what the link has; else net.core and net.ipv4.tcp_*mem, or losses"
        )
        yield finding("links.slow", where, what, way_out)
    elif gbps > FAST_SHARE * link.bandwidth_gbps:
        what = f"{gbps:.3g} Gb/s arrive, and {link.bandwidth_gbps:g} are configured"
        yield finding("links.fast", where, what, f"bandwidth_gbps: {gbps:.2g}, unless less is yours")
    if probed.retransmit_rate > LOSSY_SHARE:
        what = f"{100 * probed.retransmit_rate:.1f} % of the segments were sent again"
        yield finding(
            "links.lossy",
            where,
            what,
            "rate_limit_gbps a little below the line rate; sysctl net.ipv4.tcp_congestion_control=bbr",
        )
    if rtt_s > FAR_S:
        yield finding(
            "links.far", where, f"a round trip takes {1000 * rtt_s:.0f} ms", "a nearer site, or another route"
        )
    if 0 < path.mtu_bytes < ETHERNET_BYTES:
        what = f"packets of {path.mtu_bytes} bytes"
        yield finding("links.mtu", where, what, "larger packets outside the tunnel, where the network carries them")


def name_of(link: LinkConfig) -> str:
    """A link in words."""
    return f"{link.source} to {link.target}"


def _said(where: str, engine: str, probed: Probed, rtt_s: float, *, is_limit: bool) -> str:
    size = f"{probed.received_bytes / 1e6:.0f} MB in {probed.elapsed_s:.1f} s"
    at_least = "at least " if is_limit else ""
    return f"{where}: {at_least}{probed.goodput_gbps:.3g} Gb/s from {engine} ({size}), {1000 * rtt_s:.1f} ms"


def _figures(where: str, probed: Probed, rtt_s: float, path: Reached) -> dict[str, float]:
    return {
        f"{where}: gbps": round(probed.goodput_gbps, 4),
        f"{where}: rtt_ms": round(1000 * rtt_s, 3),
        f"{where}: retransmit_rate": round(probed.retransmit_rate, 6),
        f"{where}: mtu_bytes": path.mtu_bytes,
    }
