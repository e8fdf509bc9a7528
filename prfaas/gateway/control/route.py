"""``GET /prfaas/plan``: what the controller thinks."""

from collections.abc import Mapping
from typing import Any, get_args

import msgspec
from fastapi import FastAPI, Request
from fastapi.responses import Response

from prfaas.config.controller import Mode
from prfaas.gateway.control.history import Kind
from prfaas.gateway.control.loop import ControlLoop
from prfaas.gateway.live import Live
from prfaas.gateway.operator_routes import Guard


def add_plan_route(app: FastAPI, live: Live, control: ControlLoop, guard: Guard) -> None:
    """For those who may see the decisions."""
    described: dict[int | str, dict[str, Any]] = {
        200: {"description": "The plan.", "content": {"application/json": {"schema": PLAN}}}
    }

    @app.get("/prfaas/plan", responses=described)
    async def plan(request: Request) -> Response:
        """The controller: its mode, what it wants and why, what it knows, and its last changes; for operators."""
        if live.now.access.needs_key:
            guard.check(request)
        # A figure that is not finite would be no JSON: msgspec writes null.
        return Response(msgspec.json.encode(control.overview()), media_type="application/json")


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
