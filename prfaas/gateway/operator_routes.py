"""The operators' part of the HTTP API, and who may use it."""

import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from prfaas.config import GatewayConfig
from prfaas.errors import ConfigError, RequestRejected
from prfaas.gateway.all_workers import AllWorkers
from prfaas.gateway.operator import Operator
from prfaas.gateway.operator_key import read_key

LOOPBACK = frozenset({"127.0.0.1", "::1", "::ffff:127.0.0.1"})
FROM_ELSEWHERE = ("forwarded", "x-forwarded-for", "x-real-ip", "origin")
"""A proxy on this machine speaks for others, and a browser for any page that it shows."""


class Guard:
    """Lets operators in: by their key, or without one from the loopback interface only."""

    def __init__(self, key: bytes | None) -> None:
        self._key = key

    @classmethod
    def of(cls, config: GatewayConfig) -> "Guard":
        """Raises ConfigError when the key's file cannot be used."""
        path = config.operator_key_file
        if path is None:
            return cls(None)
        return cls(read_key(Path(path)))

    def check(self, request: Request) -> None:
        """Raises RequestRejected for all others."""
        if self._key is not None:
            scheme, _, given = request.headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not hmac.compare_digest(given.encode(), self._key):
                raise RequestRejected(401, "This needs the operators' key.", code="invalid_api_key")
            return
        is_near = request.client is not None and request.client.host in LOOPBACK
        if not is_near or any(name in request.headers for name in FROM_ELSEWHERE):
            message = "This is for operators, on the gateway's own machine or with gateway.operator_key_file."
            raise RequestRejected(403, message, kind="permission_error", code="not_an_operator")

    def check_reader(self, request: Request, *, needs_key: bool) -> None:
        """The same for what only tells. All may read it where neither clients (``needs_key``) nor operators have keys.

        Raises RequestRejected.
        """
        if needs_key or self._key is not None:
            self.check(request)


def add_operator_routes(app: FastAPI, operator: Operator, workers: AllWorkers, guard: Guard) -> None:
    """Engines, drain and reload."""

    @app.get("/prfaas/engines")
    async def engines(request: Request) -> Response:
        """All engines and links: state, breaker, requests in flight; for operators."""
        guard.check(request)
        return JSONResponse(operator.overview(await workers.share()))

    async def drained(name: str, *, is_drained: bool) -> Response:
        with _conflicts():
            operator.drain(name, is_drained=is_drained)
        share = await workers.share()
        return JSONResponse({**operator.engine(name, share), "silent_workers": share.silent})

    @app.post("/prfaas/engines/{name}/drain")
    async def drain(request: Request, name: str) -> Response:
        """Give the engine no new requests; running ones end. For operators."""
        guard.check(request)
        return await drained(name, is_drained=True)

    @app.post("/prfaas/engines/{name}/undrain")
    async def undrain(request: Request, name: str) -> Response:
        """Give the engine requests again; for operators."""
        guard.check(request)
        return await drained(name, is_drained=False)

    @app.post("/prfaas/reload")
    async def reload(request: Request) -> Response:
        """Read the configuration again; for operators."""
        guard.check(request)
        with _conflicts():
            return JSONResponse({"changes": str(operator.reload())})


@contextmanager
def _conflicts() -> Iterator[None]:
    """Says 409 to what cannot be done of an operator's word."""
    try:
        yield
    except ConfigError as error:
        raise RequestRejected(409, str(error), code="config_refused") from None
