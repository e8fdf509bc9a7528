"""The controller and what it steers, in plain values, for people."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from prfaas.gateway.control.conversions import Underway
from prfaas.gateway.control.follow import Follower, threshold_of
from prfaas.gateway.control.history import Change
from prfaas.gateway.services import GatewayServices
from prfaas.planner.controller.advice import Advice
from prfaas.planner.controller.view import ControllerState


@dataclass(frozen=True, slots=True)
class Seen:
    """The controller at one moment.

    Attributes:
        advice: the latest, None before the first.
        underway: conversions, by engine.
        state: what it knows, None while there is no controller.
        change: the last one, None before the first.
        error: of the last look, empty when that went well.
    """

    advice: Advice | None
    underway: Mapping[str, Underway]
    state: ControllerState | None
    change: Change | None
    error: str


def overview_of(services: GatewayServices, follower: Follower, state: ControllerState | None) -> dict[str, Any]:
    """Thresholds, roles and conversions as they are, and as they are wanted; ages in seconds. ``state`` is None while
    there is no controller."""
    view, config, now_s = services.view, services.config, services.clock.now_s()
    return {
        "mode": config.controller.mode,
        "threshold_tokens": view.policy.threshold_tokens,
        "configured_threshold_tokens": config.policy.threshold_tokens,
        "wanted_threshold_tokens": None if follower.advice is None else threshold_of(config, follower.advice),
        "engines": [
            {
                "name": name,
                "roles": list(view.roles(name)),
                "configured_roles": list(engine.roles),
                "is_convertible": engine.convertible,
            }
            for name, engine in config.engines.items()
            if engine.site == config.gateway.site
        ],
        "conversions": [
            {"engine": name, "role": one.role, "for_s": round(now_s - one.began_s, 3)}
            for name, one in follower.conversions.underway.items()
        ],
        "state": None if state is None else told(state, config.gateway.workers),
    }


def told(state: ControllerState, workers: int = 1) -> dict[str, Any]:
    """Its changes are left out: whoever follows them keeps the history."""
    plain: dict[str, Any] = msgspec.to_builtins(state)
    del plain["changes"]
    if workers > 1:
        alone = (
            f"gateway.workers: 1 before a division is judged: this is one of {workers}, with its part of the requests"
        )
        plain["waits_for"] = "; ".join(each for each in (state.waits_for, alone) if each)
    return plain
