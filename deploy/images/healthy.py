#!/usr/bin/env python3
"""healthy URL [CERT KEY]: whether a server of this container answers 200. Exit code 0 or 1.

The certificate is for servers that answer only to who shows one. The server's own is not checked: it runs here, and
under the name by which other hosts know it. Standard library only: it runs every ten seconds.
"""

import http.client
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


def main(url: str, *identity: str) -> int:
    try:
        answered = status(url, list(identity))
    except (OSError, http.client.HTTPException) as error:
        print(f"{url}: {error}")
        return 1
    print(f"{url}: {answered}")
    return 0 if answered == 200 else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
