"""The gRPC service of a mover: sessions of decode engines, what gateways ask, what is asked before there is traffic."""

import logging
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import asdict
from typing import Any

import grpc

from prfaas.errors import ConfigError, RemoteProtocolError, TransferFailed
from prfaas.transport.control_streams import ControlStreams, Stream
from prfaas.transport.data_service import DataService
from prfaas.transport.grpc_options import ADMITTED, SERVER_OPTIONS
from prfaas.transport.look import Look
from prfaas.transport.prefix_feed import PrefixFeed
from prfaas.transport.report_book import ReportBook
from prfaas.transport.settings import TlsSettings
from prfaas.transport.tls import KeyRing
from prfaas.transport.transfer_pb2_grpc import KvLinkServicer, add_KvLinkServicer_to_server
from prfaas.types import MoverStatistics
from prfaas.wire import transfer_pb2 as pb
from prfaas.wire.description import encode_description
from prfaas.wire.prefixes import encode_update

MAX_CALLS = 2_048
"""Calls at a time: a report call per request in flight, and the sessions."""
MAX_REPORT_WAIT_S = 3_600.0

log = logging.getLogger(__name__)


class KvLink(KvLinkServicer):
    """Serves one mover."""

    def __init__(
        self,
        streams: ControlStreams,
        reports: ReportBook,
        statistics: Callable[[], MoverStatistics],
        tls: TlsSettings | None,
        prefixes: PrefixFeed | None,
        look: Look,
    ) -> None:
        """``prefixes`` is None where nobody can follow the engine's prefix cache."""
        self._streams, self._reports, self._statistics, self._tls = streams, reports, statistics, tls
        self._prefixes, self._look = prefixes, look

    async def Session(self, requests: object, stream: Stream) -> None:
        """One control stream of a decode engine."""
        await self.admit_decode(stream)
        await stream.send_initial_metadata(ADMITTED)
        await self._streams.serve(stream)

    async def Report(
        self, request: pb.ReportRequest, context: "grpc.aio.ServicerContext[pb.ReportRequest, pb.ReportReply]"
    ) -> pb.ReportReply:
        """Wait for a load's report; a wrong secret looks like an unknown transfer."""
        await self._admit(context, self._tls.report_names if self._tls else None)
        timeout_s = min(request.timeout_ms / 1e3, MAX_REPORT_WAIT_S)
        report = await self._reports.wait(request.transfer_id, request.secret, timeout_s)
        if report is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such transfer, or not finished in time")
        return pb.ReportReply(**asdict(report))

    async def Statistics(
        self,
        request: pb.StatisticsRequest,
        context: "grpc.aio.ServicerContext[pb.StatisticsRequest, pb.StatisticsReply]",
    ) -> pb.StatisticsReply:
        """The mover's figures now."""
        await self._admit(context, self._tls.report_names if self._tls else None)
        return pb.StatisticsReply(**asdict(self._statistics()))

    async def Prefixes(
        self,
        request: pb.PrefixesRequest,
        context: "grpc.aio.ServicerContext[pb.PrefixesRequest, pb.PrefixUpdate]",
    ) -> AsyncIterator[pb.PrefixUpdate]:
        """What the engine's prefix cache holds, until the caller leaves."""
        await self._admit(context, self._tls.report_names if self._tls else None)
        if self._prefixes is None:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "this engine publishes no cache events")
        assert self._prefixes is not None
        try:
            async for update in self._prefixes.follow():
                yield encode_update(update)
        except RemoteProtocolError as error:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))

    async def Describe(
        self, request: pb.DescribeRequest, context: "grpc.aio.ServicerContext[pb.DescribeRequest, pb.Description]"
    ) -> pb.Description:
        """Which engine this is and how it runs."""
        await self._admit(context, self._look.names)
        return encode_description(self._look.describe())

    async def Probe(
        self, request: pb.ProbeRequest, context: "grpc.aio.ServicerContext[pb.ProbeRequest, pb.ProbeReply]"
    ) -> AsyncIterator[pb.ProbeReply]:
        """Noise for whoever would load caches from here; one at a time."""
        await self.admit_decode(context)
        try:
            async for reply in self._look.probe(request, context.peer()):
                yield reply
        except RemoteProtocolError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except TransferFailed as error:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))

    async def admit_decode(self, call: "grpc.aio.ServicerContext[Any, Any]") -> None:
        """End the call of who may not load caches here."""
        await self._admit(call, self._tls.decode_names if self._tls else None)

    async def _admit(self, call: "grpc.aio.ServicerContext[Any, Any]", names: Collection[str] | None) -> None:
        """End the call, without a word, of who is not one of ``names``; None admits all, without TLS."""
        if names is None:
            return
        facts = call.auth_context()
        theirs = [name.decode(errors="replace") for name in facts.get("peer_dns", ())]
        version = b"".join(facts.get("ssl_tls_version", ()))
        if not set(theirs) & set(names) or version != b"TLSv1.3":
            log.warning("refused a call of %s over %s: not one of %s", theirs, version.decode(), ", ".join(names))
            await call.abort(grpc.StatusCode.UNAUTHENTICATED)


def serve(
    service: KvLink, data: DataService, host: str, port: int, ring: KeyRing | None
) -> tuple[grpc.aio.Server, int]:
    """Bind the services; return the server (not started) and its port. Plain text only without a key ring.

    Raises:
        ConfigError: the address cannot be used.
    """
    server = grpc.aio.server(options=SERVER_OPTIONS, maximum_concurrent_rpcs=MAX_CALLS)
    add_KvLinkServicer_to_server(service, server)  # type: ignore[no-untyped-call]
    server.add_generic_rpc_handlers((data,))
    try:
        if ring is None:
            return server, server.add_insecure_port(f"{host}:{port}")
        return server, server.add_secure_port(f"{host}:{port}", ring.server_credentials())
    except RuntimeError as error:
        raise ConfigError(f"cannot listen on {host}:{port}: is the address of this machine, the port free?") from error
