"""What the controller knows and thinks, for people and for metrics."""

import math
from dataclasses import dataclass
from typing import Protocol

from prfaas.planner.controller.advice import Controller, Conversion
from prfaas.planner.controller.estimates import Estimates
from prfaas.planner.controller.model import STAGES, Division
from prfaas.planner.controller.pressure import Pressure

MAX_CHANGES = 64
"""Kept for whoever looks; all are logged by the owner."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something that changed, when (the owner's monotonic seconds), and why."""

    at_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class StageView:
    """One stage, by the model, under the present demand.

    Attributes:
        requests_s: that it lets through, of the whole fleet; None where no request passes.
        utilisation: above 1 when more arrive; None where nothing can pass and something has to.
    """

    name: str
    requests_s: float | None
    utilisation: float | None


@dataclass(frozen=True, slots=True)
class DivisionView:
    """A threshold and a division, with what the model says of them.

    Attributes:
        requests_s: Lambda_max.
        binding: the narrowest stage.
        remote_share: of the requests.
    """

    threshold_tokens: int | None
    prefill_engines: int
    decode_engines: int
    shared_engines: int
    requests_s: float
    binding: str
    remote_share: float
    stages: tuple[StageView, ...]


def division_view(division: Division, demand_requests_s: float) -> DivisionView:
    """Without infinite figures, which JSON lacks."""
    return DivisionView(
        division.threshold_tokens,
        division.prefill_engines,
        division.decode_engines,
        division.shared_engines,
        division.requests_s,
        division.binding,
        division.remote_share,
        tuple(
            _stage_view(name, limit, demand_requests_s)
            for name, limit in zip(STAGES, division.limits_requests_s, strict=True)
        ),
    )


def _stage_view(name: str, limit: float, demand: float) -> StageView:
    if math.isinf(limit):
        return StageView(name, None, 0.0)
    utilisation = demand / limit if limit > 0 else None
    return StageView(name, limit, utilisation if demand > 0 else 0.0)


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
        factors: how many times as long as by the profile local prefills, remote prefills and decode steps take at work;
            1 where nothing else is known.
        remote_engines: that can be used.
        link_bytes_s: what the links from their sites carry, together.
        pending: the conversions on their way.
        conversions: that were advised in all.
        waits_for: what the next plan or conversion waits for, in words; empty when nothing is wanted.
        changes: the last ones, oldest first, without those that are brief (``Advice.is_brief``).
    """

    threshold_tokens: int | None
    planned_threshold_tokens: int | None
    steps: int
    estimates: Estimates
    pressure: Pressure | None
    now: DivisionView | None
    wanted: DivisionView | None
    why: str
    factors: tuple[float, float, float]
    remote_engines: int
    link_bytes_s: float
    pending: tuple[Conversion, ...]
    conversions: int
    waits_for: str
    changes: tuple[Change, ...]
