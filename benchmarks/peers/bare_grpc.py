"""Bare gRPC-python: one process streams byte messages to another, without frames, checksums or a place to put them.

Run as ``python -m benchmarks.peers.bare_grpc``, the sending child; it prints its port.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent import futures

import grpc

METHOD = "/bare.Stream/Send"
OPTIONS = (
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
    ("grpc.use_local_subchannel_pool", 1),
)


class Stream:
    """A sending process and a channel to it, kept over all rounds."""

    def __init__(self) -> None:
        self._child = subprocess.Popen([sys.executable, "-m", __name__], stdout=subprocess.PIPE, text=True)
        assert self._child.stdout is not None
        port = int(self._child.stdout.readline())
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS)
        self._call: grpc.UnaryStreamMultiCallable[bytes, bytes] = self._channel.unary_stream(
            METHOD, request_serializer=None, response_deserializer=None
        )

    def measure(self, size_bytes: int, message_bytes: int) -> float:
        """Receive so many bytes; return the seconds."""
        began_s = time.monotonic()
        received = sum(map(len, self._call(f"{size_bytes} {message_bytes}".encode())))
        assert received == size_bytes
        return time.monotonic() - began_s

    def close(self) -> None:
        self._channel.close()
        self._child.kill()
        self._child.wait()


def _send(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    size_bytes, message_bytes = map(int, request.split())
    messages = [os.urandom(message_bytes) for _ in range(8)]
    for at in range(size_bytes // message_bytes):
        yield messages[at % 8]


def _serve() -> None:
    server = grpc.server(futures.ThreadPoolExecutor(2), options=OPTIONS)
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_stream_rpc_method_handler(_send)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bare.Stream", {"Send": handler}),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    _serve()
