"""The connections to all engines: how many, how long they are kept, and where each engine is now."""

import ssl
from collections.abc import Mapping

import aiohttp

CONNECT_TIMEOUT_S = 5.0
"""An engine that does not accept within this time is as good as gone."""
MAX_REQUESTS = 2_048
"""At once, where nobody says how many there may be."""
SPARE_CONNECTIONS = 256
"""Beyond two per request: requests are let in while those before them still take leave of their engines."""
KEEP_ALIVE_S = 3.0
"""Shorter than the 5 s after which vLLM closes an idle connection, so that no request meets a closing one."""
READ_BUFFER_BYTES = 64 * 1024
"""Per connection; aiohttp stops reading from the engine at twice this, so a slow client slows its engine down."""


class Connections:
    """What the clients to the engines of all configurations share.

    Probes have connections of their own: an engine is not ill because requests have taken all of theirs, for one of
    which they wait without a limit of time. Theirs need no bound, because engines are asked one thing after the other.

    Attributes:
        urls: base URL of each engine by name, as the newest configuration has it.
    """

    def __init__(self, urls: Mapping[str, str], max_requests: int = MAX_REQUESTS) -> None:
        """For so many clients' requests at once."""
        self.urls = urls
        # Two per request, for a remote prefill: a bound against a leak, not a queue.
        self._limit = 2 * max_requests + SPARE_CONNECTIONS
        self._requests: aiohttp.ClientSession | None = None
        self._probes: aiohttp.ClientSession | None = None

    @property
    def requests(self) -> aiohttp.ClientSession:
        assert self._requests is not None, "the upstream client is used outside its context"
        return self._requests

    @property
    def probes(self) -> aiohttp.ClientSession:
        assert self._probes is not None, "the upstream client is used outside its context"
        return self._probes

    def open(self, tls: ssl.SSLContext) -> None:
        """``tls`` says whom to trust of engines that are https."""
        self._requests, self._probes = _session(tls, self._limit), _session(tls, 0)

    async def aclose(self) -> None:
        """Close all connections (idempotent)."""
        for session in (self._requests, self._probes):
            if session is not None:
                await session.close()


def _session(tls: ssl.SSLContext, limit: int) -> aiohttp.ClientSession:
    """At most so many connections, 0 for no bound."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=limit, keepalive_timeout=KEEP_ALIVE_S, ssl=tls),
        # The request's own deadline bounds the rest; total=None because it is not this client's to know.
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        read_bufsize=READ_BUFFER_BYTES,
    )
