"""``GET /prfaas/plan``: what the controller thinks; ``POST /prfaas/engines/{name}/role``: an operator's flip."""

from collections.abc import Mapping
from typing import Any, get_args

import msgspec
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from prfaas.config import Role
from prfaas.config.controller import Mode
from prfaas.errors import RequestRejected
from prfaas.gateway.body import decode_object, read_body
from prfaas.gateway.control.history import Kind
from prfaas.gateway.control.loop import ControlLoop
from prfaas.gateway.live import Live
from prfaas.gateway.operator_routes import Guard
from prfaas.planner.controller.advice import Conversion

MAX_BODY_BYTES = 1024
"""A role is a word."""


def add_plan_route(app: FastAPI, live: Live, control: ControlLoop, guard: Guard) -> None:
    """For those who may see the decisions."""
    described: dict[int | str, dict[str, Any]] = {
        200: {"description": "The plan.", "content": {"application/json": {"schema": PLAN}}}
    }

    @app.get("/prfaas/plan", responses=described)
    async def plan(request: Request) -> Response:
        """The controller: its mode, what it wants and why, what it knows, and its last changes; for operators."""
        guard.check_reader(request, needs_key=live.now.access.needs_key)
        # A figure that is not finite would be no JSON: msgspec writes null.
        return Response(msgspec.json.encode(control.overview()), media_type="application/json")


def add_role_route(app: FastAPI, control: ControlLoop, guard: Guard) -> None:
    """For those who may drain."""
    body = {"required": True, "content": {"application/json": {"schema": _object({"role": _ROLE})}}}
    responses: dict[int | str, dict[str, Any]] = {
        202: {"description": "It has begun: `/prfaas/plan` says how it goes."}
    }

    @app.post("/prfaas/engines/{name}/role", status_code=202, responses=responses, openapi_extra={"requestBody": body})
    async def role(request: Request, name: str) -> Response:
        """Drain an engine and give it its other role, without a restart; for operators."""
        guard.check(request)
        wanted = _role_in(await read_body(request, MAX_BODY_BYTES))
        control.convert(Conversion(name, wanted))
        return JSONResponse({"engine": name, "role": wanted}, 202)


def _role_in(body: bytes) -> Role:
    """Raises RequestRejected."""
    asked = decode_object(body).get("role")
    found: Role | None = next((role for role in get_args(Role) if role == asked), None)
    if found is None:
        message = f"'role' must be one of {', '.join(get_args(Role))}."
        raise RequestRejected(400, message, param="role", code="invalid_value")
    return found


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": [*properties], "properties": dict(properties), "additionalProperties": False}


def _list_of(items: Mapping[str, Any], description: str = "") -> dict[str, Any]:
    return {"type": "array", "items": dict(items), **({"description": description} if description else {})}


_TEXT, _NUMBER, _COUNT = {"type": "string"}, {"type": "number"}, {"type": "integer", "minimum": 0}
_ROLE = {"type": "string", "enum": ["prefill", "decode"]}
_CHANGE = _object(
    {
        "unix_s": _NUMBER,
        "mode": {"type": "string", "enum": [*get_args(Mode)]},
        "kind": {"type": "string", "enum": [*get_args(Kind)]},
        "what": _TEXT,
        "reasons": _list_of(_TEXT),
    }
)
_STATE = {
    "type": ["object", "null"],
    "description": "What the controller knows, plans and waits for (`waits_for`); null in mode off.",
}
PLAN = _object(
    {
        "mode": {"type": "string", "enum": [*get_args(Mode)]},
        "threshold_tokens": {**_COUNT, "description": "In force."},
        "configured_threshold_tokens": _COUNT,
        "wanted_threshold_tokens": {"type": ["integer", "null"], "description": "Null while the controller is silent."},
        "engines": _list_of(
            _object(
                {
                    "name": _TEXT,
                    "roles": _list_of(_ROLE),
                    "configured_roles": _list_of(_ROLE),
                    "is_convertible": {"type": "boolean"},
                }
            ),
            "Of the gateway's site.",
        ),
        "conversions": _list_of(_object({"engine": _TEXT, "role": _ROLE, "for_s": _NUMBER}), "Under way."),
        "state": _STATE,
        "looks": _COUNT,
        "errors": _COUNT,
        "last_error": {**_TEXT, "description": "Of the last look, empty when that went well."},
        "changes": _list_of(_CHANGE, "The last ones, latest first; in shadow what would have been done."),
        "brief_changes": _list_of(_CHANGE, "The same of thresholds that followed queues, for seconds as a rule."),
    }
)
