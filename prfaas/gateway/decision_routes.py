"""What became of requests: the last decisions, and one request's way as a timeline."""

from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, Query, Request
from fastapi.responses import Response

from prfaas.errors import RequestRejected
from prfaas.gateway.live import Live
from prfaas.gateway.operator_routes import Guard
from prfaas.observe.timeline import timeline

MAX_CURSOR = 64
After = Annotated[
    str,
    Query(max_length=MAX_CURSOR, description="An answer's `cursor`: only what is new or has changed since it is told."),
]


def add_decision_routes(app: FastAPI, live: Live, guard: Guard) -> None:
    """For operators; for all where nobody has a key."""

    def check(request: Request) -> None:
        guard.check_reader(request, needs_key=live.now.access.needs_key)

    @app.get("/prfaas/decisions")
    async def decisions(request: Request, after: After = "") -> Response:
        """The last decisions, latest first, with their reasons and what became of them; for operators."""
        check(request)
        ring = live.now.decisions
        return _json({"decisions": ring.after(after), "cursor": ring.cursor})

    @app.get("/prfaas/requests/{request_id}")
    async def one_request(request: Request, request_id: str) -> Response:
        """One request: its decision, and its way as a timeline, in seconds from its arrival; for operators."""
        check(request)
        services = live.now
        decision = services.decisions.get(request_id)
        if decision is None:
            raise RequestRejected(404, _unknown(services.config.gateway.workers), code="request_not_found")
        config = services.config
        sites = {name: engine.site for name, engine in config.engines.items()}
        return _json({"decision": decision, "timeline": timeline(decision, sites, config.gateway.site)})


def _json(told: Any) -> Response:
    """A figure that is not finite would be no JSON: msgspec writes null."""
    return Response(msgspec.json.encode(told), media_type="application/json", headers={"cache-control": "no-store"})


def _unknown(workers: int) -> str:
    elsewhere = f", and each of the {workers} workers keeps its own: ask again" if workers > 1 else ""
    return f"No decision of this request is kept here: only the last ones are{elsewhere}. The log has all."
