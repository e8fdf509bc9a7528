"""Bounds on what a client may send before the application sees anything, and on how long it may take.

uvicorn's own parser reads heads of any length, waits for them without end, and answers what it cannot parse in plain
text. An unread body it throws away for as long as it comes.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from prfaas.errors import RequestRejected
from prfaas.gateway.openai_error import error_body

MAX_HEAD_BYTES = 64 * 1024
"""Request line and headers; twice what common proxies let through."""
MAX_HEADERS = 200
"""Each costs an object and a look at every step."""
HEAD_TIMEOUT_S = 30.0
"""From the connection, or the end of the last answer's body, to the end of the head; longer than any sane network."""
UNREAD_BODY_TIMEOUT_S = 10.0
"""For the rest of a body that is answered unread: the client is to see the answer, not a broken connection."""
MAX_CONNECTIONS = 8192
"""Each costs some kilobytes and a descriptor; more than all requests that the gateway lets in."""

TOO_LARGE = RequestRejected(
    431, f"The request's head exceeds {MAX_HEAD_BYTES} bytes or {MAX_HEADERS} headers.", code="headers_too_large"
)
TOO_SLOW = RequestRejected(408, f"The request's head did not arrive within {HEAD_TIMEOUT_S:g} s.", code="timeout")
MALFORMED = RequestRejected(400, "This is not a valid HTTP request.", code="invalid_http")
REASONS = {400: b"Bad Request", 408: b"Request Timeout", 431: b"Request Header Fields Too Large"}


class HeadTooLarge(Exception):
    """Ends the parsing; the parser's own handling of errors answers."""


class BoundedHttp(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol with these bounds, and with errors in OpenAI's shape."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_in_head = True
        self._is_message_complete = True
        self._head_bytes = 0
        self._problem = MALFORMED
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn declares it
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
            return
        self._wait(HEAD_TIMEOUT_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_in_head:
            if self._deadline is None:
                self._wait(HEAD_TIMEOUT_S)
            self._head_bytes += len(data)
        super().data_received(data)
        if self._is_in_head and self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(TOO_LARGE)

    def on_message_begin(self) -> None:
        self._is_message_complete = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        size_bytes = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size_bytes > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADERS:
            self._problem = TOO_LARGE
            raise HeadTooLarge
        self._is_in_head = False
        self._stop_waiting()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._is_message_complete, self._is_in_head, self._head_bytes = True, True, 0
        self._stop_waiting()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._is_message_complete:
            self._wait(UNREAD_BODY_TIMEOUT_S)

    def send_400_response(self, msg: str) -> None:
        if not self.transport.is_closing():
            self._refuse(self._problem)

    def _refuse(self, error: RequestRejected) -> None:
        """Answer without the application, and hang up: what follows in the connection cannot be understood."""
        body = error_body(error)
        head = b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(head % (error.status, REASONS[error.status], len(body)) + body)
        self.transport.close()

    def _wait(self, timeout_s: float) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(timeout_s, self._has_waited)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _has_waited(self) -> None:
        self._deadline = None
        if self.transport.is_closing():
            return
        if self._is_in_head and self._head_bytes:
            self._refuse(TOO_SLOW)
        else:
            self.transport.close()
