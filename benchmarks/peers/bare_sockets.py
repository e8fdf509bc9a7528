"""Plain Python sockets: one process sends, one receives, a thread per connection, no frames and no checksums.

Run as ``python -m benchmarks.peers.bare_sockets send PORT CONNECTIONS BYTES``, the sending child.
"""

import os
import socket
import subprocess
import sys
import threading
import time

MIB = 1 << 20


def measure(size_bytes: int, connections: int, into: memoryview) -> float:
    """Receive so many bytes from a child process; return the seconds from the first byte to the last."""
    share = size_bytes // connections
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        command = [sys.executable, "-m", __name__, "send", port, str(connections), str(size_bytes)]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as child:
            socks = [listener.accept()[0] for _ in range(connections)]
            views = [into[i * share : (i + 1) * share] for i in range(connections)]
            threads = [threading.Thread(target=_receive, args=pair) for pair in zip(socks, views, strict=True)]
            assert child.stdin is not None
            began_s = time.monotonic()
            child.stdin.close()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            seconds = time.monotonic() - began_s
            for sock in socks:
                sock.close()
    return seconds


def touched(size_bytes: int) -> memoryview:
    """Memory whose pages are all there."""
    return memoryview(bytearray(os.urandom(MIB)) * (size_bytes // MIB))


def _receive(sock: socket.socket, into: memoryview) -> None:
    while into:
        size = sock.recv_into(into)
        if size == 0:
            raise ConnectionError("the sender stopped early")
        into = into[size:]


def _send_all(port: int, connections: int, size_bytes: int) -> None:
    data, share = touched(size_bytes), size_bytes // connections
    socks = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
    threads = [
        threading.Thread(target=sock.sendall, args=(data[i * share : (i + 1) * share],)) for i, sock in enumerate(socks)
    ]
    sys.stdin.read()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for sock in socks:
        sock.close()


if __name__ == "__main__":
    _send_all(int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
