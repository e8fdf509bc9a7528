"""A bound on the requests that are in the gateway at once."""

import asyncio
import logging

from starlette.types import ASGIApp, Receive, Scope, Send

from prfaas.config import AccessConfig
from prfaas.errors import RequestRejected
from prfaas.gateway.error_shape import error_response
from prfaas.observe.metrics import Metrics

MAX_ARRIVING = 512
"""Requests whose body is on its way or being tokenised, beyond those that run or wait: each holds a body in memory."""

log = logging.getLogger("prfaas.gateway")


def inflight_limit(access: AccessConfig) -> int:
    """How many generation requests one process holds at most."""
    return access.max_running + sum(each.max_waiting for each in access.priorities) + MAX_ARRIVING


class Inflight:
    """Counts the generation requests in the gateway. Belongs to one event loop."""

    def __init__(self, metrics: Metrics, limit: int) -> None:
        self.limit = limit
        self.metrics = metrics
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()

    @property
    def is_full(self) -> bool:
        return self._count >= self.limit

    def add(self, count: int) -> None:
        """One more, or one less."""
        self._count += count
        self.metrics.inflight.set(self._count)
        if self._count:
            self._none.clear()
        else:
            self._none.set()

    async def gone(self, timeout_s: float) -> None:
        """Wait until there are none, at most ``timeout_s``."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._none.wait()
        except TimeoutError:
            log.warning("%d requests are cut off", self._count)


OPERATORS = "/prfaas/"
"""Paths of those who can do something about a gateway that is full."""


class Admission:
    """ASGI middleware: counts generation requests, and answers 503 to those beyond the bound."""

    def __init__(self, app: ASGIApp, inflight: Inflight) -> None:
        self._app = app
        self._inflight = inflight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"].startswith(OPERATORS):
            await self._app(scope, receive, send)
            return
        if self._inflight.is_full:
            await self._refuse(scope, receive, send)
            return
        self._inflight.add(1)
        try:
            await self._app(scope, receive, send)
        finally:
            self._inflight.add(-1)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = f"The gateway already works on {self._inflight.limit} requests; try again."
        error = RequestRejected(503, message, kind="server_error", code="overloaded", retry_after_s=1)
        self._inflight.metrics.count_rejected(error.status)
        about = {"event": "request ended", "outcome": "rejected", "status": error.status, "code": error.code}
        log.info("%r rejected status=%s code=%s", scope["path"], error.status, error.code, extra=about)
        await error_response(error, scope["path"], {"connection": "close"})(scope, receive, send)
