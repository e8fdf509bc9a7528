"""Settings: what is compared. A policy of the router, which local engines prefill, and who may change either."""

from collections.abc import Callable
from dataclasses import dataclass

from prfaas.planner.controller.advice import Controller
from prfaas.routing.policy import BrownOut, Policy, PolicyName

NOTHING_REMOTE_TOKENS = 1 << 40
"""Longer than any prompt: the router's threshold where nothing goes remote."""


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
        router: which of the router's two rules decides.
        controller: makes the one that may change threshold and division while the scenario runs; None for fixed ones.
        phases: ascending in time; for an oracle.
    """

    name: str
    threshold_tokens: int | None
    prefill_engines: int | None = None
    router: PolicyName = "threshold"
    controller: Callable[[], Controller] | None = None
    phases: tuple[Phase, ...] = ()

    def policy(self) -> Policy:
        """The router's. Nothing is refused for a full batch: what it costs is what is to be seen."""
        return Policy(name=self.router, threshold_tokens=threshold_of(self.threshold_tokens), brown_out=BrownOut(None))


def threshold_of(tokens: int | None) -> int:
    """As the router takes it."""
    return NOTHING_REMOTE_TOKENS if tokens is None else tokens
