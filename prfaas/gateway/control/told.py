"""The controller's state in plain values, for people."""

from typing import Any

import msgspec

from prfaas.planner.controller.model import STAGES, Division
from prfaas.planner.controller.view import ControllerState


def told(state: ControllerState) -> dict[str, Any]:
    """Names of stages beside their figures. Its changes are left out: whoever follows them keeps the history."""
    plain: dict[str, Any] = msgspec.to_builtins(state)
    del plain["changes"]
    return {**plain, "now": _division(state.now), "wanted": _division(state.wanted)}


def _division(division: Division | None) -> dict[str, Any] | None:
    if division is None:
        return None
    plain: dict[str, Any] = msgspec.to_builtins(division)
    limits = dict(zip(STAGES, division.limits_requests_s, strict=True))
    return {**plain, "limits_requests_s": limits, "binding": division.binding}
