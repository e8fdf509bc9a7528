"""Asking a decode engine's mover what became of a transfer. Imports neither torch nor vllm."""

from collections.abc import AsyncIterator
from dataclasses import fields

import grpc

from prfaas.errors import RemoteProtocolError, TransferFailed
from prfaas.prefix import PrefixUpdate
from prfaas.transport.dialer import Dialer
from prfaas.transport.grpc_options import BROKEN
from prfaas.transport.settings import TlsSettings
from prfaas.transport.tls import KeyRing, Keys
from prfaas.transport.transfer_pb2_grpc import KvLinkStub
from prfaas.types import LinkStatistics, MoverStatistics, TransferReport
from prfaas.wire import transfer_pb2 as pb
from prfaas.wire.prefixes import decode_update

STATISTICS_TIMEOUT_S = 5.0
REPLY_MARGIN_S = 2.0
"""What the network may add to the wait that the mover itself bounds."""


class ReportClient:
    """One channel per mover, made at first use and again after the certificates changed; close with ``aclose``.

    Args:
        tls: this site's certificates, and the names of the movers that are asked; None for plain text.
    """

    def __init__(self, tls: TlsSettings | None = None) -> None:
        self._ring = KeyRing(tls) if tls else None
        self._channels: dict[str, tuple[grpc.aio.Channel, Keys | None]] = {}
        self._replaced: list[grpc.aio.Channel] = []

    async def wait(self, target: str, transfer_id: str, secret: str, timeout_s: float) -> TransferReport:
        """Wait until the transfer was used or failed; it may be opened only after this call.

        Raises:
            TransferFailed: unknown or a wrong secret, not finished within ``timeout_s``, or ``target`` unreachable.
        """
        dialer = Dialer(target, self._ring)
        request = pb.ReportRequest(transfer_id=transfer_id, secret=secret, timeout_ms=max(0, round(timeout_s * 1e3)))
        try:
            reply = await self._stub(dialer).Report(request, timeout=timeout_s + REPLY_MARGIN_S)
        except grpc.aio.AioRpcError as error:
            reason = dialer.explain(error)
            raise TransferFailed(f"no report on transfer {transfer_id} from {target}: {reason}") from error
        return TransferReport(**{f.name: getattr(reply, f.name) for f in fields(TransferReport)})

    async def statistics(self, target: str) -> MoverStatistics:
        """The mover's figures now.

        Raises:
            TransferFailed: ``target`` cannot be reached.
        """
        dialer = Dialer(target, self._ring)
        try:
            reply = await self._stub(dialer).Statistics(pb.StatisticsRequest(), timeout=STATISTICS_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise TransferFailed(f"no statistics from {target}: {dialer.explain(error)}") from error
        links = tuple(
            LinkStatistics(**{f.name: getattr(link, f.name) for f in fields(LinkStatistics)}) for link in reply.links
        )
        counts = {f.name: getattr(reply, f.name) for f in fields(MoverStatistics) if f.name != "links"}
        return MoverStatistics(**counts, links=links)

    async def prefixes(self, target: str) -> AsyncIterator[PrefixUpdate]:
        """What the prefix cache of the engine at ``target`` holds: everything, then every change, for ever.

        Raises:
            TransferFailed: the feed ended, or the engine has none.
        """
        dialer = Dialer(target, self._ring)
        try:
            async for message in self._stub(dialer).Prefixes(pb.PrefixesRequest()):
                yield decode_update(message)
        except (*BROKEN, RemoteProtocolError) as error:
            raise TransferFailed(f"no feed of the prefix cache from {target}: {dialer.explain(error)}") from error
        raise TransferFailed(f"the feed of the prefix cache from {target} ended")

    async def aclose(self) -> None:
        """Close all channels (idempotent)."""
        while self._channels:
            self._replaced.append(self._channels.popitem()[1][0])
        while self._replaced:
            await self._replaced.pop().close()

    def _stub(self, dialer: Dialer) -> KvLinkStub:
        """The stub of a mover. One with old certificates stays for its calls: renewals are rare, the wait is not."""
        keys = dialer.keys
        channel, used = self._channels.get(dialer.address, (None, None))
        if channel is not None and used is not keys:
            self._replaced.append(channel)
            channel = None
        if channel is None:
            channel = dialer.channel()
            self._channels[dialer.address] = (channel, keys)
        return KvLinkStub(channel)  # type: ignore[no-untyped-call]
