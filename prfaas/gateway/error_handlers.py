"""Every error that leaves a route, and every unknown route, in the shape of the API; nothing internal goes out."""

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from prfaas.errors import RequestRejected
from prfaas.gateway.error_shape import error_response
from prfaas.gateway.openai_error import internal_error


def install_handlers(app: FastAPI) -> None:
    """Have the application answer errors so."""

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> Response:
        return error_response(_rejection(request, error), request.url.path, error.headers)

    @app.exception_handler(RequestRejected)
    async def on_rejection(request: Request, error: RequestRejected) -> Response:
        return error_response(error, request.url.path)

    @app.exception_handler(Exception)
    async def on_failure(request: Request, error: Exception) -> Response:
        # Whatever it is, it is a bug of ours: the client learns that much, the server's log has the rest.
        return error_response(internal_error(), request.url.path)


def _rejection(request: Request, error: HTTPException) -> RequestRejected:
    if error.status_code == 404:
        return RequestRejected(404, f"Unknown URL ({request.method} {request.url.path})", code="unknown_url")
    if error.status_code == 405:
        message = f"Method {request.method} is not allowed for {request.url.path}"
        return RequestRejected(405, message, code="method_not_allowed")
    return RequestRejected(error.status_code, str(error.detail))
