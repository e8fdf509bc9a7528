"""The socket that clients connect to: opened once, shared by all workers."""

import socket

from prfaas.config import Config
from prfaas.errors import ConfigError

BACKLOG = 2048
"""Connections that wait to be accepted; the kernel caps it at its own limit."""


def listen(config: Config) -> socket.socket:
    """Listen where the configuration says. Raises ConfigError when that cannot be done."""
    host, port = config.gateway.host, config.gateway.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigError(f"gateway.port: {port}: cannot listen on {host}: {error.strerror or error}") from None
