"""A link whose only open port is the control port."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from prfaas.transport.data_socket import encode_join
from prfaas.transport.grpc_options import CHANNEL_OPTIONS
from prfaas.transport.grpc_stream import METHOD
from prfaas.transport.messages import LoadComplete, LoadFailed
from tests.transport.movers import Pair, TinyEngine, rows


@pytest.fixture(scope="module")
def cloud() -> Iterator[TinyEngine]:
    """A prefill engine without a TCP port for frames."""
    engine = TinyEngine("cloud", serves_tcp=False)
    yield engine
    engine.close()


def listening_ports(engine: TinyEngine) -> set[int]:
    """TCP ports on which the mover listens, as the kernel lists them."""
    process = Path(f"/proc/{engine.mover.pid}")
    sockets = set()
    for descriptor in (process / "fd").iterdir():
        with contextlib.suppress(OSError):  # closed in the meantime
            sockets.add(os.readlink(descriptor))
    tables = [
        line.split() for name in ("tcp", "tcp6") for line in (process / "net" / name).read_text().splitlines()[1:]
    ]
    return {
        int(address.rpartition(":")[2], 16)
        for _, address, _, state, *rest in tables
        if state == "0A" and f"socket:[{rest[5]}]" in sockets
    }


def test_one_port_is_enough(cloud: TinyEngine) -> None:
    """Everything crosses the control port, and the mover listens on no other."""
    decode = TinyEngine("edge", grpc_peers=(cloud.mover.listen,))
    try:
        assert isinstance(Pair(cloud, decode).move("one port", rows(200), 200), LoadComplete)
        assert listening_ports(cloud) == {int(cloud.mover.listen.rpartition(":")[2])}
    finally:
        decode.close()


def test_dialing_for_tcp_is_told_what_to_write(cloud: TinyEngine) -> None:
    """A decode engine that wants TCP there fails its load at once, with the key to change."""
    decode = TinyEngine("edge")
    pair = Pair(cloud, decode)
    try:
        pair.open("tcp please")
        outcome = pair.outcome("tcp please")
        assert isinstance(outcome, LoadFailed)
        assert "transport: grpc" in outcome.reason
    finally:
        decode.close()


@pytest.mark.parametrize(
    "first", [b"", b"PFKJ", b"GET / HTTP/1.1\r\n".ljust(28), encode_join(1, bytes(16)), bytes(1 << 20)]
)
async def test_strangers_get_no_frames(cloud: TinyEngine, first: bytes) -> None:
    """A stream that does not begin with a session's token ends without a message."""
    async with grpc.aio.insecure_channel(cloud.mover.listen, options=CHANNEL_OPTIONS) as channel:
        frames: Any = channel.stream_stream(METHOD)
        call = frames(timeout=60)
        await call.write(first)
        assert await call.read() is grpc.aio.EOF
