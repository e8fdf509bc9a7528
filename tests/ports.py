"""Ports for servers that a test starts later, or on two loopback addresses."""

import random
import socket
from contextlib import ExitStack
from pathlib import Path

EPHEMERAL_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
LOWEST_PORT = 1024
HOSTS = ("127.0.0.1", "127.0.0.2")


def free_port() -> int:
    """A port of both addresses that nobody has now, and that the kernel gives to nobody by itself: it lies below those
    that connections, and servers that ask for any port, get. Other tests run at the same time."""
    above = max(int(EPHEMERAL_PORTS.read_text().split()[0]), 2 * LOWEST_PORT)
    while True:
        port = random.randrange(LOWEST_PORT, above)
        with ExitStack() as probes:
            try:
                for host in HOSTS:
                    probes.enter_context(socket.create_server((host, port)))
            except OSError:
                continue
        return port
