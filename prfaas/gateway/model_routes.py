"""``/v1/models``: what requests may name as their model, as vLLM lists it."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from prfaas.config import ModelConfig
from prfaas.gateway.api_request import no_such_model
from prfaas.gateway.live import Live
from prfaas.gateway.openapi import model_errors
from prfaas.gateway.services import GatewayServices


def add_model_routes(app: FastAPI, live: Live) -> None:
    """The list, and each entry by its name."""
    errors = model_errors(needs_key=live.now.access.needs_key)

    @app.get("/v1/models", **errors)
    async def models(request: Request) -> Response:
        services = live.now
        services.access.tenant_of(request.headers)
        return JSONResponse({"object": "list", "data": [_card(services, name) for name in services.config.model.names]})

    @app.get("/v1/models/{name:path}", **errors)
    async def model_card(request: Request, name: str) -> Response:
        services = live.now
        services.access.tenant_of(request.headers)
        if name not in services.config.model.names:
            raise no_such_model(name, services.config.model)
        return JSONResponse(_card(services, name))


def _card(services: GatewayServices, name: str) -> dict[str, Any]:
    model: ModelConfig = services.config.model
    adapter = model.adapter(name)
    return {
        "id": name,
        "object": "model",
        "created": services.started_unix_s,
        "owned_by": "prfaas",
        "root": adapter[1] if adapter else model.path,
        "parent": model.name if adapter else None,
        "max_model_len": model.max_model_len,
    }
