"""What a mover tells before there is traffic: who it is, and how fast the path from it is."""

import asyncio
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.clock import ManualClock
from prfaas.errors import RemoteProtocolError, TransferFailed
from prfaas.transport.dialer import Dialer
from prfaas.transport.look import Look
from prfaas.transport.noise import MAX_PROBE_BYTES, Noise, Probes
from prfaas.transport.probe import Arrivals, ProbeOrder, describe, probe
from prfaas.transport.settings import RateLimit
from prfaas.transport.tls import KeyRing
from prfaas.types import Fingerprint
from prfaas.wire import transfer_pb2 as pb
from prfaas.wire.control import MAX_FIELDS, MAX_TEXT
from prfaas.wire.description import Description, decode_description, encode_description
from prfaas.wire.pace import Pace
from tests.ports import free_port
from tests.transport.movers import CONFIG, Pair, TinyEngine, rows, statistics_of
from tests.transport.site_certificates import NAMES, make_sites, settings, write_site

SMALL = pb.ProbeRequest(size_bytes=1, duration_ms=1, connections=2)
QUICK = ProbeOrder(duration_s=5.0, size_bytes=16 << 20, connections=3)
EVERY_LINK = pytest.mark.parametrize("shared_pair", ["tcp", "grpc", "tls", "grpc-tls"], indirect=True)


def dialer_of(pair: Pair) -> Dialer:
    """As the pair's decode engine dials."""
    config = pair.decode.config
    return Dialer(pair.remote, KeyRing(config.tls) if config.tls else None, over_grpc=pair.remote in config.grpc_peers)


@EVERY_LINK
async def test_a_mover_describes_its_engine(shared_pair: Pair) -> None:
    """Name, fingerprint and clock, over whatever carries the link."""
    answer = await describe(dialer_of(shared_pair))
    assert answer.description.engine_id == "cloud"
    assert answer.description.epoch == shared_pair.prefill.config.epoch
    assert answer.description.fingerprint == CONFIG.fingerprint
    assert 0 < answer.rtt_s < 5
    assert abs(answer.clock_ahead_s) <= answer.rtt_s  # both are this machine's


async def test_the_clocks_difference_is_that_of_the_walls(shared_pair: Pair) -> None:
    """Asked by a machine whose clock is 90 s slow, the mover's is 90 s ahead."""
    answer = await describe(dialer_of(shared_pair), unix_s=lambda: time.time() - 90)
    assert answer.clock_ahead_s == pytest.approx(90, abs=answer.rtt_s)


@EVERY_LINK
async def test_noise_arrives_and_is_counted(shared_pair: Pair) -> None:
    """All bytes that were ordered come, and the mover is as before."""
    probed = await probe(dialer_of(shared_pair), QUICK)
    is_grpc = bool(shared_pair.decode.config.grpc_peers)
    # gRPC drops what it holds when a call is ended: up to two messages of each connection.
    least = QUICK.size_bytes - (QUICK.connections * (2 << 20) if is_grpc else 0)
    assert least <= probed.received_bytes <= QUICK.size_bytes
    assert probed.goodput_bytes_s > 0
    assert (probed.sent_segments > 0) is not is_grpc
    statistics = await asyncio.to_thread(statistics_of, shared_pair.prefill)
    assert (statistics.sent_bytes, statistics.open_saves, statistics.accepted_sessions) == (0, 0, 0)


async def test_transfers_go_on_beside_a_probe(shared_pair: Pair) -> None:
    """A transfer that begins while noise flows is exact."""
    order = ProbeOrder(duration_s=1.0, size_bytes=4 << 30, connections=2)
    running = asyncio.create_task(probe(dialer_of(shared_pair), order))
    await asyncio.sleep(0.2)  # a probe says nothing before its end
    pieces = rows(64)
    await asyncio.to_thread(shared_pair.move, "beside-a-probe", pieces, 64)
    assert sum(map(len, shared_pair.decode.payloads.pop("beside-a-probe").values())) == sum(len(d) for _, d in pieces)
    assert (await running).received_bytes > 1 << 20
    await asyncio.to_thread(shared_pair.settle)


async def test_a_second_probe_is_refused_while_one_runs(shared_pair: Pair) -> None:
    """Two would each measure a part of the link; after the first the next one is taken."""
    order = ProbeOrder(duration_s=1.0, size_bytes=4 << 30, connections=1)
    running = asyncio.create_task(probe(dialer_of(shared_pair), order))
    await asyncio.sleep(0.3)  # a probe says nothing before its end
    with pytest.raises(TransferFailed, match="another probe runs there"):
        await probe(dialer_of(shared_pair), QUICK)
    await running
    await probe(dialer_of(shared_pair), QUICK)


async def test_one_who_leaves_frees_the_mover(shared_pair: Pair) -> None:
    """A probe that is given up in the middle does not keep the next one out."""
    order = ProbeOrder(duration_s=10.0, size_bytes=16 << 30, connections=2)
    running = asyncio.create_task(probe(dialer_of(shared_pair), order))
    await asyncio.sleep(0.3)  # a probe says nothing before its end
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    async with asyncio.timeout(30):
        while True:
            try:
                await probe(dialer_of(shared_pair), QUICK)
                return
            except TransferFailed:  # the mover has not heard of it yet
                await asyncio.sleep(0.05)


async def test_a_probe_keeps_to_the_links_rate_limit() -> None:
    """With 16 Mb/s for an engine, a probe on its behalf is no faster, however many connections it has; nor is one on
    behalf of nobody."""
    engine = TinyEngine("cloud", rate_limits=(RateLimit(("edge-0",), 2e6),))
    try:
        dialer = Dialer(engine.mover.listen, None)
        probed = await probe(dialer, ProbeOrder(duration_s=1.5, connections=4, engine_id="edge-0"))
        # A block is not split, so each connection may have sent one more.
        assert probed.received_bytes <= 1.5 * 2e6 + 5 * (256 << 10)
        stranger = await probe(dialer, ProbeOrder(duration_s=1.5, connections=4, engine_id="nobody"))
        assert stranger.received_bytes <= 1.5 * 2e6 + 5 * (256 << 10)
    finally:
        engine.close()


@pytest.mark.parametrize(
    "order",
    [ProbeOrder(size_bytes=MAX_PROBE_BYTES + 1), ProbeOrder(duration_s=11), ProbeOrder(connections=17)],
)
async def test_a_probe_out_of_bounds_is_refused(shared_pair: Pair, order: ProbeOrder) -> None:
    """Bytes, time and connections are bounded by the mover, who says how."""
    with pytest.raises(TransferFailed, match="a probe has up to"):
        await probe(dialer_of(shared_pair), order)


async def test_nobody_is_told_in_one_line() -> None:
    """A port where nobody listens, and one where somebody listens who is no mover."""
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(TransferFailed, match="unavailable"):
        await describe(Dialer(address, None))
    with pytest.raises(TransferFailed, match="unavailable"):
        await probe(Dialer(address, None), QUICK)


@pytest.mark.parametrize(("site", "may_probe"), [("edge", True), ("cloud", False), ("moon", False)])
async def test_who_may_look(tmp_path: Path, site: str, may_probe: bool) -> None:
    """The site that loads from there may do both; its own site may ask who it is; another learns nothing."""
    authority = make_sites(tmp_path)
    write_site(tmp_path, authority, "moon", name="moon.site.prfaas")
    port = free_port()
    address = f"127.0.0.1:{port}"
    names = {address: NAMES["cloud"]}
    engine = TinyEngine("cloud", listen=address, data_port=free_port(), tls=settings(tmp_path, "cloud", names))
    try:
        dialer = Dialer(address, KeyRing(settings(tmp_path, site, names)))
        if site == "moon":
            with pytest.raises(TransferFailed, match="does not admit the name"):
                await describe(dialer)
        else:
            assert (await describe(dialer)).description.engine_id == "cloud"
        if may_probe:
            assert (await probe(dialer, QUICK)).received_bytes
        else:
            with pytest.raises(TransferFailed, match="does not admit the name"):
                await probe(dialer, QUICK)
    finally:
        engine.close()


TEXT = st.text(max_size=20)


@given(
    st.builds(
        Description,
        engine_id=TEXT,
        epoch=st.integers(0, 2**32 - 1),
        versions=st.lists(st.integers(0, 2**32 - 1), max_size=3).map(tuple),
        slot_bytes=st.integers(0, 2**32 - 1),
        data_port=st.integers(0, 65_535),
        fingerprint=st.builds(
            Fingerprint, st.dictionaries(TEXT, TEXT, max_size=4), st.lists(TEXT, max_size=4).map(tuple)
        ),
        facts=st.dictionaries(TEXT, TEXT, max_size=4),
        unix_ns=st.integers(0, 2**63),
    )
)
def test_a_description_arrives_as_it_was(description: Description) -> None:
    """Every field survives the wire, the fingerprint's order included."""
    told = decode_description(pb.Description.FromString(encode_description(description).SerializeToString()))
    assert told == description
    assert list(told.fingerprint.fields) == list(description.fingerprint.fields)


@pytest.mark.parametrize(
    "message",
    [
        pb.Description(engine_id="x" * (MAX_TEXT + 1)),
        pb.Description(facts=[pb.FingerprintField(name=str(n)) for n in range(MAX_FIELDS + 1)]),
        pb.Description(versions=range(MAX_FIELDS + 1)),
    ],
)
def test_a_description_beyond_bounds_is_refused(message: pb.Description) -> None:
    """Whatever a stranger says is bounded before it is used."""
    with pytest.raises(RemoteProtocolError):
        decode_description(message)


def test_goodput_is_that_of_the_second_half() -> None:
    """1 MB in the first second and 4 MB in each of the next three: the slow begin does not count."""
    clock = ManualClock()
    arrivals = Arrivals(clock)
    arrivals.add(0)
    for size in (1_000_000, 4_000_000, 4_000_000, 4_000_000):
        clock.advance(1.0)
        arrivals.add(size)
    assert arrivals.elapsed_s == 4
    assert arrivals.goodput_bytes_s == 4e6


def test_arrivals_take_bounded_memory() -> None:
    """A million small reads within a second leave a hundred notes at most, and lose no byte."""
    clock = ManualClock()
    arrivals = Arrivals(clock)
    for _ in range(100_000):
        clock.advance(1e-5)
        arrivals.add(10)
    assert arrivals.total_bytes == 1_000_000
    assert len(arrivals._notes) <= 110
    assert arrivals.goodput_bytes_s == pytest.approx(1e6, rel=0.05)


class FullStream:
    """A connection that takes so many bytes a call, and is full after each second call."""

    socket = None

    def __init__(self) -> None:
        self.data = b""
        self.calls = 0
        self.is_closed = False
        self.callback: Any = None

    def on_readable(self, callback: Any) -> None: ...

    def await_bytes(self, size: int) -> None: ...

    def on_writable(self, callback: Any) -> None:
        self.callback = callback

    def read_into(self, buffers: Any) -> int:
        raise BlockingIOError

    def write(self, buffers: Any) -> int:
        self.calls += 1
        if self.calls % 2:
            raise BlockingIOError
        taken = bytes(buffers[0][:100_000])
        self.data += taken
        return len(taken)

    def close(self) -> None:
        self.is_closed = True


async def test_noise_is_exactly_what_was_ordered_and_does_not_compress() -> None:
    """A connection that stops and starts gets the ordered bytes once, and noise is noise."""
    noise = Noise(700_000, 1, Pace(0.0, 0.0), ManualClock())
    stream = FullStream()
    assert noise.join(stream, 1)
    while not stream.is_closed:
        stream.callback()
    assert (len(stream.data), noise.sent_bytes) == (700_000, 700_000)
    assert noise.ended.is_set()
    assert len(zlib.compress(stream.data[:200_000])) > 199_000
    assert not noise.join(FullStream(), 2)


async def test_only_as_many_connections_join_as_were_ordered() -> None:
    """One more, or the same number again, is closed by the port."""
    noise = Noise(1 << 20, 2, Pace(0.0, 0.0), ManualClock())
    assert noise.join(FullStream(), 1)
    assert not noise.join(FullStream(), 1)
    assert noise.join(FullStream(), 2)
    assert not noise.join(FullStream(), 3)
    noise.close()
    assert noise.ended.is_set()


async def test_probes_end_one_after_the_other() -> None:
    """Refused while one runs; its end makes room."""
    probes = Probes(ManualClock())
    noise = probes.begin(SMALL, Pace(0.0, 0.0))
    with pytest.raises(TransferFailed, match="another probe runs there"):
        probes.begin(SMALL, Pace(0.0, 0.0))
    probes.end(noise)
    probes.begin(SMALL, Pace(0.0, 0.0))


async def test_after_a_probe_the_link_rests_as_long_as_it_had_no_rest() -> None:
    """Back to back they have half of the time; one that nobody joined cost nothing."""
    clock = ManualClock()
    probes = Probes(clock)
    probes.end(probes.begin(SMALL, Pace(0.0, 0.0)))
    assert probes.pause_s() == 0
    noise = probes.begin(SMALL, Pace(0.0, 0.0))
    clock.advance(5.0)
    noise.join(FullStream(), 1)
    clock.advance(2.0)
    noise.join(FullStream(), 2)
    clock.advance(1.0)
    assert probes.end(noise) == 3
    assert probes.pause_s() == 3
    clock.advance(2.0)
    assert probes.pause_s() == 1
    clock.advance(2.0)
    assert probes.pause_s() == 0


async def test_noise_waits_out_the_pause_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody can join before, so none flows; then one line says whose it was and how much."""
    clock = ManualClock()
    probes = Probes(clock)
    noise = probes.begin(SMALL, Pace(0.0, 0.0))
    noise.join(FullStream(), 1)
    clock.advance(0.2)
    probes.end(noise)
    look = Look(CONFIG, 7_001, probes, lambda engine: Pace(0.0, 0.0))
    began_s = time.monotonic()
    replies = look.probe(
        pb.ProbeRequest(size_bytes=1, duration_ms=1, connections=1, engine_id="edge-0"), "ipv4:1.2.3.4:5"
    )
    first = await anext(replies)
    assert time.monotonic() - began_s >= 0.2
    assert first.data_port == 7_001
    with caplog.at_level("INFO", logger="prfaas.transport.look"):
        await replies.aclose()
    assert "a probe of ipv4:1.2.3.4:5 for edge-0 sent 0 bytes in 0.0 s" in caplog.messages


def test_an_engines_name_in_a_probe_is_bounded() -> None:
    """It is written to the log."""
    request = pb.ProbeRequest(size_bytes=1, duration_ms=1, connections=1, engine_id="x" * (MAX_TEXT + 1))
    with pytest.raises(RemoteProtocolError, match="name of up to"):
        Probes(ManualClock()).begin(request, Pace(0.0, 0.0))
