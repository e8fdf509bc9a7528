"""The HTTP client to the engines: the one seam where aiohttp's errors become ours."""

import asyncio
import io
import ssl
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec

from prfaas.config import TlsConfig
from prfaas.errors import ConfigError, EngineUnavailable
from prfaas.tracing import TraceContext

CONNECT_TIMEOUT_S = 5.0
"""An engine that does not accept within this time is as good as gone."""
MAX_REQUESTS = 2_048
"""At once, where nobody says how many there may be."""
SPARE_CONNECTIONS = 1_024
"""Beyond two per request: a probe for each engine, and requests that take leave while the next ones are let in."""
KEEP_ALIVE_S = 3.0
"""Shorter than the 5 s after which vLLM closes an idle connection, so that no request meets a closing one."""
READ_BUFFER_BYTES = 64 * 1024
"""Per connection; aiohttp stops reading from the engine at twice this, so a slow client slows its engine down."""
MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""A whole answer is held in memory; the longest with 20 logprobs a token stays well below."""
FOREIGN_ERRORS = (aiohttp.ClientError, OSError)
"""What aiohttp raises when an engine refuses, goes away or is late; timeouts are OSErrors."""


class EngineUnreachable(EngineUnavailable):
    """An engine to which no connection can be made."""


class EngineLate(EngineUnavailable):
    """An engine that has not answered in time; it may just be busy."""


class AnswerTooLarge(EngineUnavailable):
    """One answer, or one event of it, that is longer than anything sensible; the engine itself may be well."""


class _Tokens(msgspec.Struct):
    """The part of an answer of ``/tokenize`` that matters."""

    tokens: list[int]


class _Card(msgspec.Struct):
    """A model as an engine lists it; adapters have a parent."""

    id: str
    root: str | None = None
    parent: str | None = None


class _Models(msgspec.Struct):
    """The part of an answer of ``/v1/models`` that matters."""

    data: list[_Card]


class UpstreamAnswer:
    """An engine's answer whose head has arrived; owns the connection until ``close``."""

    def __init__(self, engine: str, response: aiohttp.ClientResponse) -> None:
        self._engine = engine
        self._response = response
        self.status = response.status
        self.content_type = response.headers.get("content-type", "application/json")

    async def read_some(self) -> bytes:
        """The next bytes as they came, empty at the end. Raises EngineUnavailable when the answer breaks off."""
        try:
            return await self._response.content.readany()
        except FOREIGN_ERRORS as error:
            raise _unavailable(self._engine, error) from None

    async def read_all(self) -> bytes:
        """The rest of the answer. Raises EngineUnavailable when it breaks off, AnswerTooLarge."""
        parts = [part async for part in self._bounded()]
        return b"".join(parts)

    def close(self) -> None:
        """Let go of the connection; an engine that has not finished sees it closed and aborts. Idempotent."""
        self._response.close()

    async def _bounded(self) -> AsyncIterator[bytes]:
        size_bytes = 0
        while part := await self.read_some():
            size_bytes += len(part)
            if size_bytes > MAX_ANSWER_BYTES:
                raise AnswerTooLarge(f"engine {self._engine}: its answer exceeds {MAX_ANSWER_BYTES} bytes")
            yield part


class _Connections:
    """What an ``Upstream`` and all those made of it share; open within the first one's context.

    Attributes:
        urls: base URL of each engine by name, as the newest configuration has it.
        limit: connections at once, two per request: a bound against a leak, not a queue. Whoever had to wait for one
            would wait without a limit of time, probes too, and engines would count as ill. Probes share them with
            requests because they keep one to each engine open for the next request.
    """

    def __init__(self, urls: Mapping[str, str], max_requests: int) -> None:
        self.urls = urls
        self.limit = 2 * max_requests + SPARE_CONNECTIONS
        self.session: aiohttp.ClientSession | None = None


class Upstream:
    """Connections to all engines, shared by all requests. An asynchronous context manager."""

    def __init__(
        self,
        urls: Mapping[str, str],
        tls: ssl.SSLContext | None = None,
        max_requests: int = MAX_REQUESTS,
        connections: _Connections | None = None,
    ) -> None:
        """``urls`` gives the base URL of each engine by name, ``tls`` whom to trust of those that are https,
        ``max_requests`` how many clients' requests there may be at once, each with two engines."""
        self._urls = urls
        self._tls = tls or ssl.create_default_context()
        self._connections = connections or _Connections(urls, max_requests)

    def to(self, urls: Mapping[str, str]) -> "Upstream":
        """A client to the engines as they are from now on, over the same connections, which stay this one's to open and
        to close."""
        self._connections.urls = urls
        return Upstream(urls, self._tls, connections=self._connections)

    def is_current(self, engine: str) -> bool:
        """Is the engine still where this client knows it? After a reload another one may have its name."""
        return self._connections.urls.get(engine) == self._urls[engine]

    async def __aenter__(self) -> Self:
        limit = self._connections.limit
        self._connections.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=limit, keepalive_timeout=KEEP_ALIVE_S, ssl=self._tls),
            # The request's own deadline bounds the rest; total=None because it is not this client's to know.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=READ_BUFFER_BYTES,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connections.session is not None:
            await self._connections.session.close()

    async def post(self, engine: str, path: str, payload: bytes, trace: TraceContext | None = None) -> UpstreamAnswer:
        """Send a JSON request; returns when the head of the answer is there. Raises EngineUnavailable.

        Cancelling closes the connection, upon which the engine aborts the request. ``trace`` is what it belongs to.
        """
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if trace is not None:
            headers |= trace.fields()
        try:
            response = await self._opened().post(
                self._urls[engine] + path, data=_sendable(payload), headers=headers, allow_redirects=False
            )
        except FOREIGN_ERRORS as error:
            raise _unavailable(engine, error) from None
        return UpstreamAnswer(engine, response)

    async def probe(self, engine: str, timeout_s: float) -> None:
        """Ask an engine's health endpoint. Raises EngineUnavailable when it is not well, EngineLate among them."""
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with self._opened().get(self._urls[engine] + "/health", timeout=timeout) as response:
                if response.status != 200:
                    raise EngineUnavailable(f"/health answers {response.status}")
        except FOREIGN_ERRORS as error:
            raise _unavailable(engine, error) from None

    async def tokenise(self, engine: str, request: Mapping[str, Any], timeout_s: float) -> list[int] | None:
        """Have an engine make token ids of a ``/tokenize`` request; None when it refuses. Raises EngineUnavailable."""
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self.post(engine, "/tokenize", msgspec.json.encode(request))
                try:
                    body = await answer.read_all()
                finally:
                    answer.close()
        except TimeoutError:
            raise EngineUnavailable(f"engine {engine}: /tokenize does not answer in time") from None
        if answer.status >= 500:
            raise EngineUnavailable(f"engine {engine}: /tokenize answers {answer.status}")
        try:
            return msgspec.json.decode(body, type=_Tokens).tokens if answer.status == 200 else None
        except msgspec.MsgspecError:
            return None

    async def adapters(self, engine: str, timeout_s: float) -> dict[str, str]:
        """Path of each LoRA adapter that an engine has, by name. Raises EngineUnavailable when it cannot tell."""
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._opened().get(self._urls[engine] + "/v1/models", allow_redirects=False)
                answer = UpstreamAnswer(engine, response)
                try:
                    body = await answer.read_all()
                finally:
                    answer.close()
            cards = msgspec.json.decode(body, type=_Models).data
        except TimeoutError:
            raise EngineUnavailable(f"engine {engine}: /v1/models does not answer in time") from None
        except FOREIGN_ERRORS as error:
            raise _unavailable(engine, error) from None
        except msgspec.MsgspecError:
            raise EngineUnavailable(f"engine {engine}: /v1/models answers {answer.status} and lists none") from None
        return {card.id: card.root for card in cards if card.parent is not None and card.root is not None}

    def _opened(self) -> aiohttp.ClientSession:
        assert self._connections.session is not None, "the upstream client is used outside its context"
        return self._connections.session


def tls_context(ours: TlsConfig | None) -> ssl.SSLContext:
    """Trusts the system's authorities, and with a site's certificates also theirs, and shows them where they are asked
    for. Raises ConfigError when a file cannot be used."""
    context = ssl.create_default_context()
    if ours is None:
        return context
    try:
        context.load_verify_locations(ours.ca)
        context.load_cert_chain(ours.cert, ours.key, password="")
    except OSError as error:
        files = ", ".join((ours.ca, ours.cert, ours.key))
        raise ConfigError(f"sites: the gateway's site's tls ({files}) cannot be used: {error}") from None
    return context


def _sendable(payload: bytes) -> bytes | io.BytesIO:
    """A long payload as a file, which aiohttp sends piece by piece instead of all at once."""
    return payload if len(payload) <= READ_BUFFER_BYTES else io.BytesIO(payload)


def _unavailable(engine: str, error: Exception) -> EngineUnavailable:
    """Ours for theirs. In our own words, because clients may see them and theirs tell addresses."""
    if isinstance(error, TimeoutError):
        return EngineLate(f"engine {engine} does not answer in time")
    if isinstance(error, aiohttp.ClientConnectorError):
        return EngineUnreachable(f"engine {engine} cannot be reached")
    return EngineUnavailable(f"engine {engine} broke off ({type(error).__name__})")
