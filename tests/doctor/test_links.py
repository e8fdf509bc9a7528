"""Links: measured over real sockets, and judged against what is configured."""

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from prfaas.config import Config, LinkConfig, parse_config
from prfaas.doctor.asking import MoverAnswer
from prfaas.doctor.links import PROBER_TLS_GBPS, check_links, judge_failure, judge_link
from prfaas.doctor.network import Reached
from prfaas.doctor.scope import Scope
from prfaas.errors import TransferFailed
from prfaas.transport.data_socket import TOKEN_BYTES
from prfaas.transport.dialer import Dialer
from prfaas.transport.probe import NothingCame, Probed, ProbeOrder, probe
from prfaas.transport.settings import RateLimit
from prfaas.transport.transfer_pb2_grpc import KvLinkServicer, add_KvLinkServicer_to_server
from prfaas.wire import transfer_pb2 as pb
from tests.doctor.stage import codes, free_pair, mover, site_tree, sites
from tests.ports import free_port
from tests.transport.movers import TinyEngine

QUICK = ProbeOrder(duration_s=2.0, size_bytes=8 << 20, connections=2)
LINK = LinkConfig.model_validate({"from": "cloud", "to": "edge", "bandwidth_gbps": 10})
WHOLE = Reached(mtu_bytes=1500)


def probed(gbps: float, **changes: Any) -> Probed:
    return Probed(8, 1 << 30, 2.0, gbps * 125e6, **changes)


async def test_a_link_is_measured_from_its_first_engine_that_answers() -> None:
    """The figures are there, and over loopback a link of 1 Mb/s is far too modest."""
    config = sites()
    with mover(config, "cloud-0"):
        checked = await check_links(Scope(config, "edge"), QUICK)
    assert set(codes(checked)) - {"links.lossy"} == {"links.fast"}  # a busy machine may lose segments even here
    assert checked.figures["cloud to edge: gbps"] > 0.001
    assert checked.figures["cloud to edge: mtu_bytes"] >= 1280
    assert checked.figures["cloud to edge: rtt_ms"] > 0
    assert "from cloud-0" in checked.seen[0]


async def test_a_link_that_is_as_configured_is_fine() -> None:
    """A rate limit of 8 Mb/s, for which 8 Mb/s are configured."""
    tree = site_tree()
    tree["links"][0] |= {"bandwidth_gbps": 0.008, "rate_limit_gbps": 0.008}
    config = parse_config(tree)
    order = ProbeOrder(duration_s=2.0, connections=1)
    kv = config.engines["cloud-0"]
    limited = TinyEngine("cloud-0", listen=kv.kv, data_port=kv.kv_address[1] + 1,
                         rate_limits=(RateLimit(("edge-0",), 1e6),))  # fmt: skip
    try:
        checked = await check_links(Scope(config, "edge"), order)
    finally:
        limited.close()
    assert checked.figures["cloud to edge: gbps"] < 0.016
    assert "links.fast" not in codes(checked)


async def test_engines_of_a_link_are_asked_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many that are silent take no longer than one, so that a site behind a closed firewall is told in time."""
    tree = site_tree()
    for number in range(1, 6):
        url, kv = f"http://127.0.0.1:{free_port()}", f"127.0.0.1:{free_pair()}"
        tree["engines"][f"cloud-{number}"] = {**tree["engines"]["cloud-0"], "url": url, "kv": kv}
    everyone = asyncio.Barrier(6)

    async def silent(config: Config, site: str, engine: str) -> MoverAnswer:
        await everyone.wait()
        return MoverAnswer(problem="no answer within 5 s", reason="silent")

    monkeypatch.setattr("prfaas.doctor.links.ask_mover", silent)
    async with asyncio.timeout(60):
        [one] = (await check_links(Scope(parse_config(tree), "edge"), QUICK)).findings
    assert one.code == "links.unmeasured"
    assert "none of cloud-0, cloud-1, " in one.what


async def test_a_link_without_an_engine_that_answers_is_told() -> None:
    """Nothing to measure from: a warning, for the engines' own check has the reason."""
    checked = await check_links(Scope(sites(), "edge"), QUICK)
    assert codes(checked) == ["links.unmeasured"]
    assert await check_links(Scope(sites(), "cloud"), QUICK) == type(checked)()


@pytest.mark.parametrize(
    ("measured", "rtt_s", "path", "found"),
    [
        (probed(10), 0.04, WHOLE, []),
        (probed(7.1), 0.04, WHOLE, []),
        (probed(6.9), 0.04, WHOLE, ["links.slow"]),
        (probed(19), 0.04, WHOLE, []),
        (probed(21), 0.04, WHOLE, ["links.fast"]),
        (probed(10, sent_segments=1000, retransmitted_segments=9), 0.04, WHOLE, []),
        (probed(10, sent_segments=1000, retransmitted_segments=11), 0.04, WHOLE, ["links.lossy"]),
        (probed(10), 0.31, WHOLE, ["links.far"]),
        (probed(10), 0.04, Reached(mtu_bytes=1400), ["links.mtu"]),
        (probed(10), 0.04, Reached(mtu_bytes=65_536), []),
        (probed(10), 0.04, Reached(), []),
    ],
)
def test_what_was_measured_is_judged(measured: Probed, rtt_s: float, path: Reached, found: list[str]) -> None:
    """Bandwidth both ways, losses, distance and packet size, each alone."""
    assert codes(judge_link(LINK, measured, rtt_s, path)) == found


def test_a_rate_limit_is_what_is_expected() -> None:
    """5 Gb/s over a link of 10 are slow, unless caches may leave no faster."""
    limited = LINK.model_copy(update={"rate_limit_gbps": 5})
    assert codes(judge_link(LINK, probed(4.9), 0.04, WHOLE)) == ["links.slow"]
    assert codes(judge_link(limited, probed(4.9), 0.04, WHOLE)) == []


@pytest.mark.parametrize(("measured", "found"), [(5.7, []), (5.5, ["links.slow"])])
def test_a_link_is_judged_by_what_can_be_measured(measured: float, found: list[str]) -> None:
    """Of 40 Gb/s one engine and one doctor show 8 with TLS: 70 % of that is as good as it gets."""
    fast = LINK.model_copy(update={"bandwidth_gbps": 40})
    assert codes(judge_link(fast, probed(measured), 0.04, WHOLE, most_gbps=PROBER_TLS_GBPS)) == found


async def test_what_a_fast_link_has_is_told_as_the_least() -> None:
    """Over loopback, which is configured with more than can be measured."""
    tree = site_tree()
    tree["links"][0]["bandwidth_gbps"] = 1000
    config = parse_config(tree)
    with mover(config, "cloud-0"):
        checked = await check_links(Scope(config, "edge"), QUICK)
    assert checked.seen[0].startswith("cloud to edge: at least ")


def test_failures_are_told_apart() -> None:
    """Nothing came is a black hole; all else is a link that was not measured."""
    hole = judge_failure("cloud to edge", "cloud-0", NothingCame("8 data connections were made, and not one byte came"))
    assert hole.code == "links.black_hole"
    assert "tcp_mtu_probing" in hole.way_out
    other = judge_failure("cloud to edge", "cloud-0", TransferFailed("another probe runs there"))
    assert (other.code, other.level) == ("links.unmeasured", "warning")


class Swallowing(KvLinkServicer):
    """A mover whose data port takes connections, and whose noise is lost on the way."""

    def __init__(self, data_port: int) -> None:
        self._data_port = data_port

    async def Probe(self, request: pb.ProbeRequest, context: Any) -> AsyncIterator[pb.ProbeReply]:
        yield pb.ProbeReply(token=secrets.token_bytes(TOKEN_BYTES), data_port=self._data_port)
        await asyncio.sleep(0.2)  # the time of the probe
        yield pb.ProbeReply(sent_bytes=1 << 20)


async def test_a_path_that_swallows_large_packets_is_seen() -> None:
    """Connections are made, not one byte comes: an error of its own."""
    server = grpc.aio.server()
    with socket.create_server(("127.0.0.1", 0)) as data:
        add_KvLinkServicer_to_server(Swallowing(data.getsockname()[1]), server)  # type: ignore[no-untyped-call]
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            with pytest.raises(NothingCame):
                await probe(Dialer(f"127.0.0.1:{port}", None), QUICK)
        finally:
            await server.stop(0)
