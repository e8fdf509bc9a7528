"""The application: routes, and the background work that lives as long as it does."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from prfaas.gateway.admission import Admission, Inflight, inflight_limit
from prfaas.gateway.all_workers import AllWorkers
from prfaas.gateway.api_request import PATHS, Endpoint
from prfaas.gateway.background import begin, watch_fleet
from prfaas.gateway.control.loop import ControlLoop, MakeController
from prfaas.gateway.control.make import controller_of
from prfaas.gateway.control.route import add_plan_route, add_role_route
from prfaas.gateway.dashboard import add_dashboard
from prfaas.gateway.decision_routes import add_decision_routes
from prfaas.gateway.direct import DirectRoutes, Handler
from prfaas.gateway.error_handlers import install_handlers
from prfaas.gateway.live import ConfigSource, Live
from prfaas.gateway.model_routes import add_model_routes
from prfaas.gateway.openapi import SECURITY_SCHEMES, documented
from prfaas.gateway.operator import Operator
from prfaas.gateway.operator_routes import Guard, add_operator_routes
from prfaas.gateway.operator_state import OperatorStore
from prfaas.gateway.other_workers import OtherWorkers
from prfaas.gateway.pipeline import handle
from prfaas.gateway.services import GatewayServices
from prfaas.gateway.status.route import add_status_route
from prfaas.gateway.vitals import Vitals, is_ready

STATE_FILE = "operators.json"
GOODBYE_S = 3.0
"""For the last words of requests that the server has cancelled; each of them takes less by itself."""
LOOPBACK = frozenset({"127.0.0.1", "::1"})
CORS: Mapping[str, Any] = {
    "allow_methods": ["GET", "POST"],
    "allow_headers": ["*"],
    "expose_headers": ["*"],
    "max_age": 3600,
}
"""Keys travel in headers, not in cookies, so no credentials are allowed and "*" may be any header."""


def create_app(
    services: GatewayServices,
    source: ConfigSource | None = None,
    shared_folder: Path | None = None,
    make_controller: MakeController = controller_of,
) -> ASGIApp:
    """The gateway as an ASGI application. It opens the services when it starts and closes them when it stops.

    With a ``source`` it reads its configuration again when an operator says so, or on SIGHUP. In ``shared_folder`` the
    processes of one gateway meet, and tell each other what operators did unless the configuration names a file.

    Raises:
        ConfigError: the operators' key, or a profile for the controller, cannot be used.
    """
    access = services.config.access
    inflight = Inflight(services.metrics, inflight_limit(access))
    live = Live(services, source)
    configured = services.config.gateway.state_file
    unless_configured = shared_folder / STATE_FILE if shared_folder else None
    operator = Operator(live, OperatorStore(Path(configured) if configured else unless_configured))
    control = ControlLoop(live, make_controller)
    others = OtherWorkers(shared_folder)
    workers = AllWorkers(live, others, operator.step, lambda: control.arrival_requests_s)
    vitals = Vitals(live)
    lifespan = _lifespan_of(live, operator, others, control, inflight, vitals)
    app = FastAPI(title="prfaas", lifespan=lifespan, openapi_url="/openapi.json")
    handlers = {path: _handler_of(live, endpoint) for endpoint, path in PATHS.items()}
    install_handlers(app)
    _add_generation_routes(app, services, handlers)
    add_model_routes(app, live)
    guard = Guard.of(services.config.gateway)
    _add_status_routes(app, live, guard, vitals)
    add_plan_route(app, live, control, guard)
    add_status_route(app, live, control, workers, guard)
    add_decision_routes(app, live, workers, guard)
    add_dashboard(app)
    add_operator_routes(app, operator, workers, guard)
    add_role_route(app, control, guard)
    if services.access.needs_key:
        _describe_keys(app)
    bounded = Admission(DirectRoutes(app, handlers), inflight)
    if not access.cors_origins:
        return bounded
    # Around the rest, so that refusals are readable in browsers too.
    return CORSMiddleware(bounded, allow_origins=access.cors_origins, **CORS)


def _lifespan_of(
    live: Live, operator: Operator, others: OtherWorkers, control: ControlLoop, inflight: Inflight, vitals: Vitals
) -> Any:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        services = live.now
        # Others hear of this worker before it reads what operators have said: what they say later, they tell it.
        async with services.upstream, others.answering():
            operator.step()  # before the first request: what was drained stays drained
            working = [
                begin(watch_fleet(live), "watching the fleet"),
                begin(operator.run(), "following operators"),
                begin(control.run(), "asking the controller"),
                begin(services.pace.run(), "measuring load"),
                begin(vitals.run(), "keeping the gauges"),
            ]
            try:
                yield
            finally:
                await inflight.gone(GOODBYE_S)
                for task in working:
                    task.cancel()
                await asyncio.gather(*working, return_exceptions=True)
                await live.aclose()
                services.tokenizer.close()
                services.prefixes.close()

    return lifespan


def _add_generation_routes(app: FastAPI, services: GatewayServices, handlers: Mapping[str, Handler]) -> None:
    """For ``/openapi.json`` and other methods; requests go to the handlers directly."""
    for endpoint, path in PATHS.items():
        description = documented(endpoint, services.config.model.names, needs_key=services.access.needs_key)
        app.add_api_route(path, handlers[path], methods=["POST"], name=endpoint, **description)


def _handler_of(live: Live, endpoint: Endpoint) -> Handler:
    async def generate(request: Request) -> Response:
        return await handle(live, endpoint, request)

    return generate


def _describe_keys(app: FastAPI) -> None:
    """Say in ``/openapi.json`` how keys are given."""
    plain = app.openapi

    def with_keys() -> dict[str, Any]:
        schema = plain()
        schema.setdefault("components", {})["securitySchemes"] = SECURITY_SCHEMES
        return schema

    app.openapi = with_keys  # type: ignore[method-assign]  # as FastAPI's manual extends its schema


def _add_status_routes(app: FastAPI, live: Live, guard: Guard, vitals: Vitals) -> None:
    @app.get("/health")
    async def health() -> Response:
        """The gateway is alive."""
        return JSONResponse({"status": "ok"})

    @app.get("/ready")
    async def ready() -> Response:
        """A local decode engine answers and its tokens have been compared; the body tells how every engine is."""
        can_serve = is_ready(live.now)
        engines = {status.name: status.problem or "ok" for status in live.now.fleet.statuses()}
        return JSONResponse({"ready": can_serve, "engines": engines}, 200 if can_serve else 503)

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        """All metrics in Prometheus' format; for operators."""
        services = live.now
        guard.check_reader(request, needs_key=services.access.needs_key)
        await vitals.tell()
        parts = []
        for part in services.metrics.parts():
            parts.append(part)
            await asyncio.sleep(0)  # streams go on: with many engines all parts together take tens of milliseconds
        return Response(b"".join(parts), media_type="text/plain; version=0.0.4; charset=utf-8")
