"""The short way to the routes that carry the load."""

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from prfaas.gateway.error_shape import error_response
from prfaas.gateway.openai_error import internal_error

Handler = Callable[[Request], Awaitable[Response]]


class DirectRoutes:
    """ASGI middleware around the framework: calls the handlers of some paths itself.

    The framework resolves dependencies for every request and wraps every chunk that is sent, layer by layer. Its routes
    for these paths stay: they are what /openapi.json shows, and they answer other methods.
    """

    def __init__(self, app: ASGIApp, handlers: Mapping[str, Handler]) -> None:
        """``handlers`` gives those of POST requests by path."""
        self._app = app
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_post = scope["type"] == "http" and scope["method"] == "POST"
        handler = self._handlers.get(scope["path"]) if is_post else None
        if handler is None:
            await self._app(scope, receive, send)
            return
        try:
            response = await handler(Request(scope, receive, send))
        except Exception:  # a bug of ours: the client learns that much, the server logs the rest
            await error_response(internal_error(), scope["path"])(scope, receive, send)
            raise
        await response(scope, receive, send)
