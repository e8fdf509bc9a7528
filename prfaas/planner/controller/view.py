"""What the controller knows and thinks, for people and for metrics."""

from dataclasses import dataclass
from typing import Protocol

from prfaas.planner.controller.advice import Controller, Conversion
from prfaas.planner.controller.estimates import Estimates
from prfaas.planner.controller.model import Division
from prfaas.planner.controller.pressure import Pressure

MAX_CHANGES = 64
"""Kept for whoever looks; all are logged by the owner."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something that changed, when (the owner's monotonic seconds), and why."""

    at_s: float
    reason: str


class SeenController(Controller, Protocol):
    """A controller that can be looked into."""

    def state(self) -> "ControllerState":
        """As of the last step."""


@dataclass(frozen=True, slots=True)
class ControllerState:
    """At the last step.

    Attributes:
        threshold_tokens: t as advised; None keeps everything local.
        planned_threshold_tokens: t of the long term.
        steps: by which the short term has moved it.
        estimates: what arrives.
        pressure: what presses on links and engines, None before anything is known of their speeds.
        now: the present division, None before a plan.
        wanted: the division to head for; the present one when no other is needed.
        why: it is wanted; empty when no other is.
        utilisation: of the narrowest stage, by the model, under the present demand.
        remote_engines: that can be used.
        link_bytes_s: what the links from their sites carry, together.
        pending: the conversion on its way.
        conversions: that were advised in all.
        waits_for: what the next plan or conversion waits for, in words; empty when nothing is wanted.
        changes: the last ones, oldest first.
    """

    threshold_tokens: int | None
    planned_threshold_tokens: int | None
    steps: int
    estimates: Estimates
    pressure: Pressure | None
    now: Division | None
    wanted: Division | None
    why: str
    utilisation: float | None
    remote_engines: int
    link_bytes_s: float
    pending: Conversion | None
    conversions: int
    waits_for: str
    changes: tuple[Change, ...]
