"""What goes wrong between two movers: every fault is healed, or ends in LoadFailed on one side and SaveClosed on the
other, and all slots come home."""

import contextlib
import os
import random
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import pytest

from prfaas.transport.messages import Cancel, LoadComplete, LoadFailed, OfferSave, OpenLoad, SaveClosed
from prfaas.types import Fingerprint
from prfaas.wire.save import MAX_SENDS
from tests.ports import free_port
from tests.transport.movers import (
    CONFIG,
    PATIENCE_S,
    SHORT_LEASE_S,
    Pair,
    TinyEngine,
    check_arrived,
    full_slots,
    outcome_of,
    rows,
    statistics_of,
)
from tests.transport.relay import Relay
from tests.transport.site_certificates import NAMES, make_sites, settings

_numbers = count()
BRIEF_LEASE_S = 5.0
"""Longer than a busy machine holds a mover up."""


def new_id() -> str:
    return f"fault-{next(_numbers)}"


@dataclass
class Network:
    """A pair whose decode side reaches the prefill side through relays on another loopback address, or through a single
    one where frames come over gRPC."""

    pair: Pair
    control: Relay
    data: Relay

    def transfer_starts(self, name: str) -> None:
        """Open a transfer and wait until its first pieces have arrived."""
        self.pair.open(name)
        self.pair.start(name, 0, 400)
        self.pair.prefill.stage(name, rows(48), self.pair.poll)
        self.pair.until(lambda: name in self.pair.decode.payloads)


OTHER_PATHS = [pytest.param(name, marks=pytest.mark.slow) for name in ("tls", "grpc", "grpc-tls")]


@contextlib.contextmanager
def network_over(path: str, folder: Path, **changes: object) -> Iterator[Network]:
    """Engines with these changes, relays between them; ``folder`` is for certificates."""
    control_port, data_port, is_grpc = free_port(), free_port(), path.startswith("grpc")
    cloud_tls = edge_tls = None
    if path.endswith("tls"):
        make_sites(folder)
        cloud_tls, edge_tls = settings(folder, "cloud"), settings(folder, "edge")
    prefill = TinyEngine("cloud", listen=f"127.0.0.1:{control_port}", data_port=data_port, tls=cloud_tls, **changes)
    remote = f"127.0.0.2:{control_port}"
    if edge_tls is not None:
        edge_tls = replace(edge_tls, names={remote: NAMES["cloud"]})
    decode = TinyEngine("edge", tls=edge_tls, grpc_peers=(remote,) if is_grpc else (), **changes)
    control = data = Relay(("127.0.0.2", control_port), ("127.0.0.1", control_port))
    if not is_grpc:
        data = Relay(("127.0.0.2", data_port), ("127.0.0.1", data_port))
    yield Network(Pair(prefill, decode, remote=remote), control, data)
    decode.close()
    prefill.close()
    control.close()
    if not is_grpc:
        data.close()


@pytest.fixture(scope="module", params=["tcp", *OTHER_PATHS])
def path(request: pytest.FixtureRequest) -> str:
    """What carries the frames."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def wide_network(path: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with network_over(path, tmp_path_factory.mktemp("certificates")) as network:
        yield network


@pytest.fixture
def network(wide_network: Network) -> Iterator[Network]:
    """The shared network."""
    yield from spared(wide_network)


@pytest.fixture
def brief_network(path: str, tmp_path: Path) -> Iterator[Network]:
    """One on which a test need not wait long for a lease to end."""
    with network_over(path, tmp_path, lease_s=BRIEF_LEASE_S) as network:
        yield from spared(network)


def spared(network: Network) -> Iterator[Network]:
    """The network for one test; afterwards it works again and every slot is home."""
    network.data.spares_oldest = network.data is network.control
    yield network
    network.control.is_silent = network.data.is_silent = False
    network.pair.settle()
    assert isinstance(moves_again(network.pair), LoadComplete)


def moves_again(pair: Pair) -> LoadComplete | LoadFailed:
    """Transfer until one succeeds: the first ones after a fault may fall into the back-off. Whoever fails is cancelled
    on the prefill side, as the gateway does."""
    while True:
        name = new_id()
        outcome = pair.move(name, rows(32), 32)
        if isinstance(outcome, LoadComplete):
            return outcome
        pair.prefill.scheduler.send(Cancel(name, "its load failed"))
        pair.poll()


@pytest.mark.parametrize("offset", [20, 48 + 5000], ids=["header", "payload"])
def test_a_flipped_byte_costs_only_frames_that_were_on_the_way(network: Network, offset: int) -> None:
    """A corrupt payload is sent again alone, a corrupt header or record with what was behind it on its connection."""
    pair, name = network.pair, new_id()
    moves_again(pair)
    before = statistics_of(pair.prefill)
    network.data.flip_at = offset
    pieces = rows(400)
    assert isinstance(pair.move(name, pieces, 400), LoadComplete)
    assert network.data.flip_at is None
    check_arrived(pair.decode, name, pieces)
    resent_bytes = statistics_of(pair.prefill).resent_bytes - before.resent_bytes
    if network.data is network.control:  # the byte may be one of HTTP/2's own
        assert resent_bytes <= CONFIG.receive_slots * CONFIG.slot_bytes
    elif offset < 48 or pair.prefill.config.tls:
        assert 0 < resent_bytes <= CONFIG.receive_slots * CONFIG.slot_bytes
    else:
        assert resent_bytes in {len(data) for _, data in pieces}


def test_cut_data_connections_lose_nothing(network: Network) -> None:
    """A transfer of 64 MiB survives five cuts of all its connections: every byte, once, within its session."""
    pair, name, chaos = network.pair, new_id(), random.Random(3)
    moves_again(pair)
    pieces = full_slots(64 << 20)
    # Cuts are made while pieces wait for slots, so the last one is due before the end fits into staging.
    before, cuts = statistics_of(pair.prefill), sorted(chaos.randrange(48 << 20) for _ in range(5))
    passed = network.data.passed

    def cut_when_due() -> None:
        pair.poll()
        if cuts and network.data.passed - passed > cuts[0]:
            network.data.cut()
            cuts.pop(0)

    pair.open(name)
    pair.start(name, 0, 16 * len(pieces))
    pair.prefill.stage(name, pieces, cut_when_due)
    pair.end(name, 16 * len(pieces))
    outcome = pair.outcome(name)
    assert isinstance(outcome, LoadComplete), outcome.reason
    assert not cuts
    check_arrived(pair.decode, name, pieces)
    after = statistics_of(pair.prefill)
    resent_bytes = after.resent_bytes - before.resent_bytes
    assert after.sent_bytes - before.sent_bytes - resent_bytes == outcome.cache_bytes
    assert resent_bytes <= 5 * CONFIG.receive_slots * CONFIG.slot_bytes  # none, where all had just arrived
    assert after.accepted_sessions == before.accepted_sessions == 1


def test_a_frame_that_never_arrives_whole_ends_its_transfer(network: Network) -> None:
    """Sending again is bounded: a path that damages every copy of a frame fails the load with the reason."""
    pair, name = network.pair, new_id()
    moves_again(pair)
    network.data.flip_every = 1000
    outcome = pair.move(name, rows(16, row_bytes=4096), 16)
    network.data.flip_every = None
    assert isinstance(outcome, LoadFailed)
    assert f"did not arrive in {MAX_SENDS} attempts" in outcome.reason


@pytest.mark.parametrize("cut_data", [False, True], ids=["control", "all"])
def test_a_cut_control_stream_is_resumed(network: Network, cut_data: bool) -> None:
    """A transfer survives cuts of the control stream, alone or with all data connections, within its session."""
    pair, name, chaos = network.pair, new_id(), random.Random(4)
    moves_again(pair)
    pair.settle()
    network.control.spares_oldest = False
    pieces = full_slots(64 << 20)
    before, cuts = statistics_of(pair.prefill), sorted(chaos.randrange(48 << 20) for _ in range(5))
    passed = network.data.passed

    def cut_when_due() -> None:
        pair.poll()
        if cuts and network.data.passed - passed > cuts[0]:
            network.control.cut()
            if cut_data:
                network.data.cut()
            cuts.pop(0)

    pair.open(name)
    pair.start(name, 0, 16 * len(pieces))
    pair.prefill.stage(name, pieces, cut_when_due)
    network.control.cut()
    pair.end(name, 16 * len(pieces))
    network.control.cut()
    outcome = pair.outcome(name)
    assert isinstance(outcome, LoadComplete), outcome.reason
    assert not cuts
    check_arrived(pair.decode, name, pieces)
    pair.until(lambda: statistics_of(pair.prefill).completed_saves == before.completed_saves + 1)
    assert statistics_of(pair.prefill).accepted_sessions == before.accepted_sessions == 1


@pytest.mark.parametrize("what", ["control", "data"])
def test_connections_that_swallow_everything_are_replaced(brief_network: Network, what: str) -> None:
    """A path that forgets a connection ends it nowhere; missed heartbeats do, or bytes that nobody confirms."""
    network, pair, name = brief_network, brief_network.pair, new_id()
    moves_again(pair)
    # Or frames would leave on one that is made later, and nothing would be stuck.
    pair.until(lambda: statistics_of(pair.prefill).links[0].connections == CONFIG.data_connections)
    network.transfer_starts(name)
    (network.control if what == "control" else network.data).swallow()
    pair.prefill.stage(name, rows(400)[3:], pair.poll)
    pair.end(name, 400)
    assert isinstance(pair.outcome(name), LoadComplete)
    assert statistics_of(pair.prefill).accepted_sessions == 1


def test_what_is_opened_without_a_control_stream_waits_for_the_next(network: Network) -> None:
    """A break is nobody's failure: a transfer that is opened right after one is complete, too."""
    pair = network.pair
    moves_again(pair)
    network.control.spares_oldest = False
    for _ in range(5):
        network.control.cut()
        assert isinstance(pair.move(new_id(), rows(32), 32), LoadComplete)
    assert statistics_of(pair.prefill).accepted_sessions == 1


@pytest.mark.parametrize("who", ["prefill", "decode"])
def test_a_mover_that_stops_is_not_waited_for(who: str) -> None:
    """It says so, and the other side ends all that it had with it, long before the lease."""
    prefill, decode = TinyEngine("cloud", lease_s=600.0), TinyEngine("edge", lease_s=600.0)
    pair, name = Pair(prefill, decode), new_id()
    stops, stays = (prefill, decode) if who == "prefill" else (decode, prefill)
    try:
        pair.open(name)
        pair.start(name, 0, 400)
        prefill.stage(name, rows(48), pair.poll)
        pair.until(lambda: name in decode.payloads)
        stops.close()
        deadline_s = time.monotonic() + PATIENCE_S
        while not any(isinstance(m, LoadFailed | SaveClosed) and m.reason for m in stays.worker_heard):
            assert time.monotonic() < deadline_s
            time.sleep(0.02)  # the mover's word has no event to wait for here
            stays.poll()
        figures = statistics_of(stays)
        assert figures.accepted_sessions == figures.dialed_sessions == 0
    finally:
        decode.close()
        prefill.close()


def test_silence_beyond_the_lease_fails_all_transfers(brief_network: Network) -> None:
    """A network that swallows everything is noticed by both sides without any error from the kernel."""
    network, pair, name = brief_network, brief_network.pair, new_id()
    network.transfer_starts(name)
    network.control.is_silent = network.data.is_silent = True
    outcome = pair.outcome(name)
    assert isinstance(outcome, LoadFailed)
    assert "nothing heard" in outcome.reason
    pair.until(lambda: any(isinstance(m, SaveClosed) and m.transfer_id == name for m in pair.prefill.worker_heard))
    pair.until(lambda: len(pair.prefill.free_send) == CONFIG.send_slots)


def test_strangers_on_the_data_port_get_nothing(network: Network) -> None:
    """A connection without a session's token is closed without an answer; transfers go on."""
    if network.data is network.control:
        pytest.skip("frames over gRPC have no port of their own")
    listen = network.data._target
    for first_bytes in (b"GET / HTTP/1.1\r\n\r\nHost: somewhere\r\n", b"PFKJ\x01" + bytes(23)):
        with socket.create_connection(listen) as stranger:
            stranger.settimeout(10)
            stranger.sendall(first_bytes)
            heard = b""
            with contextlib.suppress(ConnectionResetError):
                heard = stranger.recv(1)
            assert heard == b""


def test_the_death_of_the_prefill_mover_fails_the_load_with_its_address() -> None:
    """After kill -9 the decode side fails the load at once, later loads at once, and its slots are home."""
    prefill, decode = TinyEngine("cloud"), TinyEngine("edge")
    pair, name, late = Pair(prefill, decode), new_id(), new_id()
    try:
        pair.open(name)
        pair.start(name, 0, 400)
        prefill.stage(name, rows(48), pair.poll)
        pair.until(lambda: name in decode.payloads)
        os.kill(prefill.mover.pid, signal.SIGKILL)
        outcome = pair.outcome(name)
        assert isinstance(outcome, LoadFailed)
        assert prefill.mover.listen in outcome.reason
        pair.until(lambda: not prefill.mover.channel.is_open)
        pair.decode.scheduler.send(OpenLoad(late, "secret", prefill.mover.listen, 30.0))
        assert isinstance(pair.outcome(late), LoadFailed)
        pair.until(lambda: statistics_of(decode).lent_receive_slots == statistics_of(decode).open_loads == 0)
    finally:
        decode.close()
        prefill.close()


def test_the_death_of_the_decode_mover_frees_the_prefill_side() -> None:
    """After kill -9 the save is closed within the lease and every send slot comes home."""
    prefill, decode = TinyEngine("cloud", lease_s=SHORT_LEASE_S), TinyEngine("edge", lease_s=SHORT_LEASE_S)
    pair, name = Pair(prefill, decode), new_id()
    try:
        pair.open(name)
        pair.start(name, 0, 400)
        prefill.stage(name, rows(48), pair.poll)
        pair.until(lambda: name in decode.payloads)
        os.kill(decode.mover.pid, signal.SIGKILL)
        pair.until(lambda: any(isinstance(m, SaveClosed) and m.reason for m in prefill.worker_heard))
        pair.until(lambda: len(prefill.free_send) == CONFIG.send_slots)
        assert statistics_of(prefill).open_saves == 0
    finally:
        decode.close()
        prefill.close()


def test_a_stopped_decode_mover_frees_the_prefill_side_within_the_lease() -> None:
    """A peer that hangs without dying is gone after its lease."""
    prefill, decode = TinyEngine("cloud", lease_s=SHORT_LEASE_S), TinyEngine("edge", lease_s=SHORT_LEASE_S)
    pair, name = Pair(prefill, decode), new_id()
    try:
        pair.open(name)
        pair.start(name, 0, 400)
        prefill.stage(name, rows(48), pair.poll)
        pair.until(lambda: name in decode.payloads)
        os.kill(decode.mover.pid, signal.SIGSTOP)
        pair.until(lambda: any(isinstance(m, SaveClosed) and m.reason for m in prefill.worker_heard))
        pair.until(lambda: len(prefill.free_send) == CONFIG.send_slots)
    finally:
        os.kill(decode.mover.pid, signal.SIGCONT)
        decode.close()
        prefill.close()


def test_an_offer_that_nobody_opens_keeps_its_slots_for_a_lease_only() -> None:
    """The request may wait long for its prefill, but what is finished and unwanted does not hold staging."""
    prefill, decode = TinyEngine("cloud", lease_s=SHORT_LEASE_S), TinyEngine("edge")
    pair, name = Pair(prefill, decode), new_id()
    try:
        prefill.scheduler.send(OfferSave(name, "secret", 16, 600.0))
        prefill.stage(name, rows(16), pair.poll)
        pair.end(name, 16)
        pair.until(lambda: any(isinstance(m, SaveClosed) and m.transfer_id == name for m in prefill.worker_heard))
        assert len(prefill.free_send) == CONFIG.send_slots
    finally:
        decode.close()
        prefill.close()


def test_a_fingerprint_mismatch_is_told_at_the_start_and_fails_loads(capfd: pytest.CaptureFixture[str]) -> None:
    """A configured peer with another model is named in the log before any request, with field and both values."""
    prefill = TinyEngine("cloud")
    other = Fingerprint({"model": "huge", "block_size": "16"}, CONFIG.fingerprint.layers)
    decode = TinyEngine("edge", fingerprint=other, peers=(prefill.mover.listen,))
    pair, log = Pair(prefill, decode), ""
    try:
        deadline_s = time.monotonic() + PATIENCE_S
        while "model is 'tiny' there and 'huge' here" not in log:
            assert time.monotonic() < deadline_s
            pair.poll()
            log += capfd.readouterr().err
        pair.open("t")
        outcome = pair.outcome("t")
        assert isinstance(outcome, LoadFailed)
        assert "model is 'tiny' there and 'huge' here" in outcome.reason
    finally:
        decode.close()
        prefill.close()


@pytest.mark.parametrize("who", ["prefill", "decode"])
def test_a_peer_that_comes_back_with_another_fingerprint_is_refused(who: str) -> None:
    """What was accepted once is compared anew with each session: one side is restarted where it was, with another
    model, and the other one goes on."""
    listen = f"127.0.0.1:{free_port()}"
    pair = Pair(TinyEngine("cloud", listen=listen), TinyEngine("edge"))
    huge = Fingerprint({"model": "huge", "block_size": "16"}, CONFIG.fingerprint.layers)
    try:
        moves_again(pair)
        if who == "prefill":
            pair.prefill.close()
            pair.prefill = TinyEngine("cloud", listen=listen, fingerprint=huge)
            said = "model is 'huge' there and 'tiny' here"
        else:
            pair.decode.close()
            pair.decode = TinyEngine("edge", fingerprint=huge)
            said = "model is 'tiny' there and 'huge' here"
        deadline_s, reason = time.monotonic() + PATIENCE_S, ""
        while said not in reason:  # the first loads may fall into the back-off
            assert time.monotonic() < deadline_s, reason
            name = new_id()
            pair.open(name)
            outcome = pair.outcome(name)
            assert isinstance(outcome, LoadFailed)
            reason = outcome.reason
        assert statistics_of(pair.prefill).accepted_sessions == 0
    finally:
        pair.decode.close()
        pair.prefill.close()


def test_a_remote_that_nobody_serves_fails_the_load_quickly(network: Network) -> None:
    """Connection refused is a failed load, and so is the next one during the back-off."""
    pair, nobody = network.pair, f"127.0.0.1:{free_port()}"
    for _ in range(2):
        name = new_id()
        pair.decode.scheduler.send(OpenLoad(name, "secret", nobody, 30.0))
        outcome = pair.outcome(name)
        assert isinstance(outcome, LoadFailed)
        assert nobody in outcome.reason
        pair.until(lambda name=name: outcome_of(pair.decode.scheduler_heard, name))  # type: ignore[misc]
