"""The gRPC method for frames: takes streams that know a token of this mover, ends all others without a word."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc

from prfaas.errors import RemoteProtocolError
from prfaas.transport.data_port import JOIN_TIMEOUT_S, DataOwner, owner_of
from prfaas.transport.data_socket import JOIN_BYTES, decode_join
from prfaas.transport.grpc_stream import METHOD, OutgoingStream

Call: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

log = logging.getLogger(__name__)


class DataService(grpc.GenericRpcHandler):
    """Gives each stream to whoever it belongs to; ``admit`` ends the calls of strangers."""

    def __init__(self, owners: Callable[[], list[DataOwner]], admit: Callable[[Call], Awaitable[None]]) -> None:
        self._owners = owners
        self._admit = admit

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """See gRPC: the handler of a method, None for those of others."""
        if handler_call_details.method != METHOD:
            return None
        return grpc.stream_stream_rpc_method_handler(self._frames)

    async def _frames(self, requests: object, call: Call) -> None:
        """One data connection, from its join to its end."""
        await self._admit(call)
        try:
            async with asyncio.timeout(JOIN_TIMEOUT_S):
                data = await call.read()
            if not isinstance(data, bytes) or len(data) != JOIN_BYTES:
                raise RemoteProtocolError("the first message was no join")
            connection, token = decode_join(data)
        except (OSError, RemoteProtocolError) as error:  # TimeoutError is an OSError
            log.warning("a data connection over gRPC was dropped: %s", error or "no join in time")
            return
        stream = OutgoingStream()
        owner = owner_of(self._owners(), token)
        if owner is not None and owner.senders.join(stream, connection):
            await stream.run(call.write, call.read)
