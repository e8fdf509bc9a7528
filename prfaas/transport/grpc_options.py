"""gRPC settings and the one place where its errors become ours."""

import asyncio

import grpc

from prfaas.wire.control import MAX_MESSAGE_BYTES

_BOUNDS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
)

KEEPALIVE_MS = 5_000
"""Interval of pings, and how long an answer may take: a network that swallows everything is noticed in 10 s. Without
them a data connection that waits for frames would never be missed."""

_KEEPALIVE = (
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)

REDIAL_MS = 1_000
"""Longest pause before a channel that is kept dials a lost peer again. gRPC's own grows to two minutes: so long the
gateway would hear nothing of an engine that has loaded its model, reports on its transfers included."""

CHANNEL_OPTIONS = (
    *_BOUNDS,
    *_KEEPALIVE,
    ("grpc.initial_reconnect_backoff_ms", REDIAL_MS),
    ("grpc.max_reconnect_backoff_ms", REDIAL_MS),
    ("grpc.min_reconnect_backoff_ms", 5 * REDIAL_MS),  # how long one dial may take, of a host that swallows packets
    # A proxy meant for web access would see the secrets and does not know HTTP/2 streams.
    ("grpc.enable_http_proxy", 0),
    # Each dial is a connection of its own: a broken one is never shared.
    ("grpc.use_local_subchannel_pool", 1),
)

SERVER_OPTIONS = (
    *_BOUNDS,
    *_KEEPALIVE,
    # Or it would end connections whose pings come without data, as its default is five minutes.
    ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_MS // 2),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", KEEPALIVE_MS // 2),
    # Without this a second mover binds the same port silently and takes half of the calls.
    ("grpc.so_reuseport", 0),
)

BROKEN = (grpc.RpcError, grpc.aio.BaseError, asyncio.InvalidStateError, OSError)
"""How a stream breaks; a timeout is an OSError."""

ADMITTED = (("prfaas-admitted", "yes"),)
"""Initial metadata of a control stream. Who is not admitted must not write: gRPC would report that, not the refusal."""


def explain(error: BaseException) -> str:
    """One line on what went wrong with a call."""
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name.lower()}: {error.details()}"
    if isinstance(error, grpc.aio.BaseError):  # its text is that of a Python object
        return "the connection broke"
    return str(error)


def is_final(error: BaseException) -> bool:
    """Whether dialing again at once is of no use: nobody listens there any more, or they do not admit us."""
    if not isinstance(error, grpc.aio.AioRpcError):
        return False
    return error.code() is grpc.StatusCode.UNAUTHENTICATED or "Connection refused" in (error.details() or "")
