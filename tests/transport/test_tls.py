"""Who gets in where certificates are demanded: movers of their own sites, and nobody else learns anything."""

import contextlib
import shutil
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509

from prfaas.errors import TransferFailed
from prfaas.transport.certificates import make_authority, read_authority
from prfaas.transport.data_socket import encode_join
from prfaas.transport.grpc_options import CHANNEL_OPTIONS
from prfaas.transport.grpc_stream import METHOD
from prfaas.transport.messages import LoadComplete, LoadFailed, OfferSave, OpenLoad
from prfaas.transport.report import ReportClient
from prfaas.transport.transfer_pb2_grpc import KvLinkStub
from prfaas.wire import transfer_pb2 as pb
from prfaas.wire.control import encode_batch
from prfaas.wire.session import Identity, hello
from tests.ports import free_port
from tests.transport.movers import CONFIG, Pair, TinyEngine, rows
from tests.transport.site_certificates import NAMES, NOW, make_sites, settings, write_site

_numbers = count()
HELLO = encode_batch([hello(Identity("mallory", 9, CONFIG.slot_bytes, CONFIG.fingerprint))])
Spoil = Callable[[Path], None]


def new_id() -> str:
    return f"tls-{next(_numbers)}"


@dataclass
class Cloud:
    """A prefill engine that demands certificates, and the folder of good ones."""

    folder: Path
    engine: TinyEngine
    data_port: int

    def edge(self, folder: Path | None = None, *, names: dict[str, str] | None = None) -> TinyEngine:
        """A decode engine with the certificates of ``folder`` that may dial the cloud."""
        known = {self.engine.mover.listen: NAMES["cloud"]} if names is None else names
        return TinyEngine("edge", tls=settings(folder or self.folder, "edge", known))


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    folder = tmp_path_factory.mktemp("good")
    make_sites(folder)
    data_port = free_port()
    engine = TinyEngine("cloud", tls=settings(folder, "cloud"), data_port=data_port)
    yield Cloud(folder, engine, data_port)
    engine.close()


def another_authority(folder: Path) -> None:
    trusted = (folder / "ca.crt").read_bytes()
    write_site(folder, make_authority(NOW), "edge")
    (folder / "ca.crt").write_bytes(trusted)


def expired(folder: Path) -> None:
    authority = read_authority(folder)
    assert authority is not None
    write_site(folder, authority, "edge", age_days=31)


def another_site(folder: Path) -> None:
    authority = read_authority(folder)
    assert authority is not None
    write_site(folder, authority, "edge", name="moon.site.prfaas")


WRONG = pytest.mark.parametrize("spoil", [another_authority, expired, another_site])


@pytest.fixture
def wrong(cloud: Cloud, tmp_path: Path, spoil: Spoil) -> Path:
    """A folder whose edge certificate is wrong in one way; the cloud's own is trusted."""
    folder = tmp_path / "wrong"
    shutil.copytree(cloud.folder, folder)
    spoil(folder)
    return folder


def credentials(folder: Path) -> grpc.ChannelCredentials:
    files = [(folder / name).read_bytes() for name in ("ca.crt", "edge.key", "edge.crt")]
    return grpc.ssl_channel_credentials(*files)


ENDED_HERE = grpc.StatusCode.INTERNAL
"""What this side's own gRPC makes of writing to a call that has just been ended; the peer has sent nothing then."""


async def ask_everything(cloud: Cloud, given: grpc.ChannelCredentials | None) -> list[grpc.aio.AioRpcError]:
    """Call each method of the control port once; each must fail, and the errors are returned."""
    options = (*CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", NAMES["cloud"]))
    address = cloud.engine.mover.listen
    channel = (
        grpc.aio.secure_channel(address, given, options=options)
        if given
        else grpc.aio.insecure_channel(address, options=options)
    )
    errors = []
    async with channel:
        stub: Any = KvLinkStub(channel)  # type: ignore[no-untyped-call]
        frames: Any = channel.stream_stream(METHOD)
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: stub.Report(pb.ReportRequest(transfer_id="t", secret="s", timeout_ms=1), timeout=60),
            lambda: stub.Statistics(pb.StatisticsRequest(), timeout=60),
            lambda: stub.Describe(pb.DescribeRequest(), timeout=60),
            lambda: _only_reply(stub.Probe(pb.ProbeRequest(size_bytes=1, duration_ms=1, connections=1), timeout=60)),
            lambda: _first_reply(stub.Session(timeout=60), HELLO),
            lambda: _first_reply(frames(timeout=60), encode_join(1, bytes(16))),
        ]
        for call in calls:
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await call()
            errors.append(refusal.value)
    return errors


async def _only_reply(call: Any) -> object:
    return await call.read()


async def _first_reply(stream: Any, message: object) -> object:
    with contextlib.suppress(grpc.aio.UsageError):
        await stream.write(message)
    reply = await stream.read()
    if reply is grpc.aio.EOF:
        facts = (stream.code(), stream.initial_metadata(), stream.trailing_metadata(), stream.details())
        raise grpc.aio.AioRpcError(*[await fact for fact in facts])
    return reply


def first_bytes(port: int, context: ssl.SSLContext | None) -> bytes:
    """What the data port says to a join with a guessed token."""
    heard = b""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        if context is None:
            sock.sendall(encode_join(1, bytes(16)))
            return sock.recv(100)
        with context.wrap_socket(sock, server_hostname=NAMES["cloud"]) as tls:
            tls.sendall(encode_join(1, bytes(16)))
            heard = tls.recv(100)
    return heard


def client_context(folder: Path | None) -> ssl.SSLContext:
    """An attacker's: it does not care who answers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if folder is not None:
        context.load_cert_chain(folder / "edge.crt", folder / "edge.key")
    return context


@WRONG
async def test_a_wrong_certificate_gets_nothing(cloud: Cloud, wrong: Path) -> None:
    """Another authority, an expired certificate, another site: every method and the data port end without a word."""
    for error in await ask_everything(cloud, credentials(wrong)):
        assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED, ENDED_HERE)
        assert "prfaas" not in str(error.details())
        assert NAMES["edge"] not in str(error.details())
    assert first_bytes(cloud.data_port, client_context(wrong)) == b""


async def test_no_certificate_gets_nothing(cloud: Cloud) -> None:
    """Neither TLS without a client's certificate nor plain text is answered, on either port."""
    root = (cloud.folder / "ca.crt").read_bytes()
    for given in (grpc.ssl_channel_credentials(root), None):
        for error in await ask_everything(cloud, given):
            assert error.code() in (grpc.StatusCode.UNAVAILABLE, ENDED_HERE)
    assert first_bytes(cloud.data_port, client_context(None)) == b""
    assert b"PFK" not in first_bytes(cloud.data_port, None)


async def test_older_tls_gets_nothing(cloud: Cloud) -> None:
    """A good certificate over TLS 1.2 opens no data connection."""
    context = client_context(cloud.folder)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert first_bytes(cloud.data_port, context) == b""


@WRONG
def test_a_load_with_a_wrong_certificate_fails_with_the_way_out(cloud: Cloud, wrong: Path) -> None:
    """The decode engine's failure names its file, or that nobody admits it; the prefill side opens nothing."""
    edge, name = cloud.edge(wrong), new_id()
    pair = Pair(cloud.engine, edge)
    try:
        pair.open(name)
        outcome = pair.outcome(name)
        assert isinstance(outcome, LoadFailed)
        assert "edge.crt" in outcome.reason
    finally:
        edge.close()


def test_whoever_answers_for_another_site_is_refused(cloud: Cloud) -> None:
    """An address that should be the moon's and is answered with the cloud's certificate gets no transfer."""
    edge, name = cloud.edge(names={cloud.engine.mover.listen: "moon.site.prfaas"}), new_id()
    pair = Pair(cloud.engine, edge)
    try:
        pair.open(name)
        outcome = pair.outcome(name)
        assert isinstance(outcome, LoadFailed)
        assert "no certificate of moon.site.prfaas" in outcome.reason
    finally:
        edge.close()


def test_an_address_that_is_not_configured_is_not_dialed(cloud: Cloud) -> None:
    """A request that names another address, as a client of vLLM's own API could, makes no connection to it."""
    edge, name = cloud.edge(), new_id()
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        stranger.setblocking(False)
        try:
            address = f"127.0.0.1:{stranger.getsockname()[1]}"
            edge.scheduler.send(OpenLoad(name, "secret", address, 30.0))
            outcome = Pair(cloud.engine, edge).outcome(name)
            assert isinstance(outcome, LoadFailed)
            assert f"{address} is the kv endpoint of no engine in this configuration" in outcome.reason
            with pytest.raises(BlockingIOError):
                stranger.accept()
        finally:
            edge.close()


def test_plain_text_is_not_what_tls_falls_back_to(cloud: Cloud) -> None:
    """A decode engine that expects certificates does not talk to a mover without, and says what to write."""
    plain = TinyEngine("cloud")
    edge, name = cloud.edge(names={plain.mover.listen: NAMES["cloud"]}), new_id()
    pair = Pair(plain, edge)
    try:
        pair.open(name)
        outcome = pair.outcome(name)
        assert isinstance(outcome, LoadFailed)
        assert "does not speak TLS" in outcome.reason
    finally:
        edge.close()
        plain.close()


async def test_reports_go_to_the_gateways_site_alone(cloud: Cloud) -> None:
    """The edge's certificate is answered; the cloud's own, valid as it is, is not."""
    names = {cloud.engine.mover.listen: NAMES["cloud"]}
    for site, is_answered in (("edge", True), ("cloud", False)):
        client = ReportClient(settings(cloud.folder, site, names))
        try:
            with (
                contextlib.nullcontext()
                if is_answered
                else pytest.raises(TransferFailed, match="does not admit the name")
            ):
                await client.statistics(cloud.engine.mover.listen)
        finally:
            await client.aclose()


def presented(port: int, folder: Path, name: str) -> int:
    """The serial number of the certificate that a port answers with."""
    context = client_context(folder)
    with socket.create_connection(("127.0.0.1", port)) as sock, context.wrap_socket(sock, server_hostname=name) as tls:
        certificate = tls.getpeercert(binary_form=True)
    assert certificate is not None
    return x509.load_der_x509_certificate(certificate).serial_number


def test_renewed_certificates_are_used_without_a_restart(tmp_path: Path) -> None:
    """Handshakes after a renewal show the new certificates, transfers go on, a broken renewal changes nothing."""
    authority = make_sites(tmp_path)
    data_port = free_port()
    prefill = TinyEngine("cloud", tls=settings(tmp_path, "cloud"), data_port=data_port)
    remote = prefill.mover.listen
    decode = TinyEngine("edge", tls=settings(tmp_path, "edge", {remote: NAMES["cloud"]}))
    pair = Pair(prefill, decode)
    ports = (int(remote.rpartition(":")[2]), data_port)
    try:
        assert isinstance(pair.move(new_id(), rows(16), 16), LoadComplete)
        before = [presented(port, tmp_path, NAMES["cloud"]) for port in ports]
        for site in NAMES:
            write_site(tmp_path, authority, site)
        after = [presented(port, tmp_path, NAMES["cloud"]) for port in ports]
        assert set(before).isdisjoint(after)
        assert isinstance(pair.move(new_id(), rows(16), 16), LoadComplete)
        (tmp_path / "cloud.key").write_text("half a renewal")
        assert [presented(port, tmp_path, NAMES["cloud"]) for port in ports] == after
    finally:
        decode.close()
        prefill.close()


def test_a_new_authority_shuts_the_old_certificates_out(tmp_path: Path) -> None:
    """After both the authority and the cloud's certificate were replaced, the edge's old one opens no new session."""
    old, new = tmp_path / "old", tmp_path / "new"
    make_sites(old)
    shutil.copytree(old, new)
    prefill = TinyEngine("cloud", tls=settings(new, "cloud"))
    names = {prefill.mover.listen: NAMES["cloud"]}
    write_site(new, make_authority(NOW), "cloud")
    decode = TinyEngine("edge", tls=replace(settings(old, "edge", names), ca=str(new / "ca.crt")))
    pair, name = Pair(prefill, decode), new_id()
    try:
        pair.prefill.scheduler.send(OfferSave(name, "secret", 16, 30.0))
        decode.scheduler.send(OpenLoad(name, "secret", pair.remote, 30.0))
        assert isinstance(pair.outcome(name), LoadFailed)
    finally:
        decode.close()
        prefill.close()
