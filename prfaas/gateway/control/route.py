"""``GET /prfaas/plan``: what the controller thinks."""

import msgspec
from fastapi import FastAPI, Request
from fastapi.responses import Response

from prfaas.gateway.control.loop import ControlLoop
from prfaas.gateway.live import Live
from prfaas.gateway.operator_routes import Guard


def add_plan_route(app: FastAPI, live: Live, control: ControlLoop, guard: Guard) -> None:
    """For those who may see the decisions."""

    @app.get("/prfaas/plan")
    async def plan(request: Request) -> Response:
        """The controller: its mode, what it wants and why, what it knows, and its last changes; for operators."""
        if live.now.access.needs_key:
            guard.check(request)
        # What no stage limits is infinite, which JSON cannot say: msgspec writes null.
        return Response(msgspec.json.encode(control.overview()), media_type="application/json")
