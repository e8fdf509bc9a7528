"""What became of requests: the last decisions, and one request's way as a timeline."""

from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, Query, Request
from fastapi.responses import Response

from prfaas.errors import RequestRejected
from prfaas.gateway.all_workers import MAX_CURSOR, AllWorkers
from prfaas.gateway.live import Live
from prfaas.gateway.operator_routes import Guard

After = Annotated[
    str,
    Query(max_length=MAX_CURSOR, description="An answer's `cursor`: only what is new or has changed since it is told."),
]


def add_decision_routes(app: FastAPI, live: Live, workers: AllWorkers, guard: Guard) -> None:
    """For operators; for all where nobody has a key."""

    def check(request: Request) -> None:
        guard.check_reader(request, needs_key=live.now.access.needs_key)

    @app.get("/prfaas/decisions")
    async def decisions(request: Request, after: After = "") -> Response:
        """The last decisions, latest first, with their reasons and what became of them; for operators."""
        check(request)
        told = await workers.decisions(after)
        return _json({"decisions": [decision for _, decision in told.decisions], "cursor": told.cursor})

    @app.get("/prfaas/requests/{request_id}")
    async def one_request(request: Request, request_id: str) -> Response:
        """One request: its decision, and its way as a timeline, in seconds from its arrival; for operators."""
        check(request)
        found, silent = await workers.request(request_id)
        if found is None:
            raise RequestRejected(404, _unknown(silent), code="request_not_found")
        return _json(found)


def _json(told: Any) -> Response:
    return Response(msgspec.json.encode(told), media_type="application/json", headers={"cache-control": "no-store"})


def _unknown(silent: int) -> str:
    elsewhere = f", and {silent} of the workers did not answer: ask again" if silent else ""
    return f"No decision of this request is kept: only the last ones are{elsewhere}. The log has all."
