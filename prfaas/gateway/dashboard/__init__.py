"""The page at ``/dashboard``: a few static files, which ask ``/prfaas/status`` and ``/prfaas/decisions`` by themselves.

They hold nothing of the gateway's, so everybody may have them; what they ask for is guarded.
"""

import hashlib
from importlib.resources import files

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response

TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
PAGE = "index.html"
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
"""Nothing inline, nothing from elsewhere, and no text that becomes markup: names and reasons come from requests."""
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


def add_dashboard(app: FastAPI) -> None:
    """Read the files once, and serve them."""
    contents = read_files()

    def answered(request: Request, name: str) -> Response:
        if name not in contents:
            return Response("There is no such file; the page is at /dashboard.\n", 404, media_type="text/plain")
        body, etag, media_type = contents[name]
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers={**HEADERS, "etag": etag})
        return Response(body, media_type=media_type, headers={**HEADERS, "etag": etag})

    @app.get("/dashboard", include_in_schema=False)
    async def page(request: Request) -> Response:
        return answered(request, PAGE)

    @app.get("/dashboard/", include_in_schema=False)
    async def with_slash() -> Response:
        return RedirectResponse("../dashboard")  # relative, so that it holds behind a prefix, too

    @app.get("/dashboard/{name}", include_in_schema=False)
    async def file(request: Request, name: str) -> Response:
        return answered(request, name)


def read_files() -> dict[str, tuple[bytes, str, str]]:
    """Name -> content, entity tag, media type."""
    found = {}
    for each in files(__name__).iterdir():
        media_type = TYPES.get("." + each.name.rpartition(".")[2])
        if media_type is not None:
            body = each.read_bytes()
            found[each.name] = (body, f'"{hashlib.sha256(body).hexdigest()[:16]}"', media_type)
    return found
