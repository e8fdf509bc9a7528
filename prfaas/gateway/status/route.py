"""``GET /prfaas/status``."""

from fastapi import FastAPI, Request
from fastapi.responses import Response

from prfaas.gateway.all_workers import AllWorkers
from prfaas.gateway.control.loop import ControlLoop
from prfaas.gateway.live import Live
from prfaas.gateway.operator_routes import Guard
from prfaas.gateway.status.document import Status
from prfaas.gateway.status.make import status_of


def add_status_route(app: FastAPI, live: Live, control: ControlLoop, workers: AllWorkers, guard: Guard) -> None:
    """For those who may see the decisions."""
    began_s = live.now.clock.now_s()

    @app.get("/prfaas/status", responses={200: {"model": Status, "description": "The gateway now."}})
    async def status(request: Request) -> Response:
        """Sites, engines, links, queues, controller, and what the last requests came to; for operators."""
        guard.check_reader(request, needs_key=live.now.access.needs_key)
        share, services = await workers.share(), live.now
        told = status_of(services, control.seen, share, services.clock.now_s() - began_s)
        return Response(told.model_dump_json(), media_type="application/json", headers={"cache-control": "no-store"})
