#!/usr/bin/env python3
"""healthy URL [CERT KEY] [HOST:PORT]: whether a server of this container answers 200, and another takes connections.

Exit code 0 or 1. The certificate is for servers that answer only to who shows one. The server's own is not checked: it
runs here, and under the name by which other hosts know it. HOST:PORT is an engine's mover, without which vLLM goes on
and is of no use to the other site. Standard library only: it runs every ten seconds.
"""

import http.client
import socket
import ssl
import sys
from urllib.parse import urlsplit

TIMEOUT_S = 4


def status(url: str, identity: list[str]) -> int:
    """The status that ``url`` is answered with. Raises OSError or HTTPException when it is not."""
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if identity:
            context.load_cert_chain(*identity)
        connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    connection.request("GET", parts.path or "/")
    return connection.getresponse().status


def dial(address: str) -> None:
    """Raises OSError when nobody listens there."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), timeout=TIMEOUT_S).close()


def main(url: str, *others: str) -> int:
    identity, movers = (others[:2], others[2:]) if len(others) >= 2 else ((), others)
    asked = url
    try:
        answered = status(url, list(identity))
        for asked in movers:
            dial(asked)
    except (OSError, http.client.HTTPException) as error:
        print(f"{asked}: {error}")
        return 1
    print(f"{url}: {answered}")
    return 0 if answered == 200 else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
