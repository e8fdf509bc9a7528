"""Settings: what is compared. A policy of the router, which local engines prefill, and who may change either."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from prfaas.planner.controller.advice import Controller
from prfaas.routing.policy import BrownOut, Policy

NOTHING_REMOTE_TOKENS = 1 << 40
"""Longer than any prompt: the router's threshold where nothing goes remote."""

RULES = Policy(brown_out=BrownOut(None))
"""The router's defaults, without refusals: what a full batch costs is what is to be seen."""
PREDICTIVE = replace(RULES, name="predictive")


@dataclass(frozen=True, slots=True)
class Phase:
    """From ``at_s`` on, another threshold and division; what an oracle knows. Roles change at once and for nothing."""

    at_s: float
    threshold_tokens: int | None
    prefill_engines: int | None


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to run a scenario's fleet.

    Attributes:
        threshold_tokens: t; None keeps everything local.
        prefill_engines: N_p: so many of the site's engines that are not for both only prefill, the others decode; None
            leaves each what its spec says.
        rules: the router's, but for the threshold.
        controller: makes the one that may change threshold and division while the scenario runs; None for fixed ones.
        phases: ascending in time; for an oracle.
    """

    name: str
    threshold_tokens: int | None
    prefill_engines: int | None = None
    rules: Policy = RULES
    controller: Callable[[], Controller] | None = None
    phases: tuple[Phase, ...] = ()

    def policy(self) -> Policy:
        """What the router decides by at the beginning."""
        return replace(self.rules, threshold_tokens=threshold_of(self.threshold_tokens))


def threshold_of(tokens: int | None) -> int:
    """As the router takes it."""
    return NOTHING_REMOTE_TOKENS if tokens is None else tokens
