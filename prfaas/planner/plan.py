"""What the planner answers: how to divide the fleet, what it then serves, and what it would gain from more."""

from dataclasses import dataclass
from typing import Literal

from prfaas.planner.decode import OperatingPoint

StageName = Literal["remote prefill", "link", "local prefill", "local decode"]


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the fleet that requests pass.

    Attributes:
        requests_s: Theta, how many of the requests that pass here it does a second at most.
        share: of all requests that pass here.
        utilisation: in [0, 1], when the fleet serves ``Plan.requests_s``; 1 for the stage that binds.
    """

    name: StageName
    requests_s: float
    share: float
    utilisation: float


@dataclass(frozen=True, slots=True)
class Plan:
    """A division of the fleet and what the model says of it.

    Attributes:
        threshold_tokens: t: a longer uncached prompt is prefilled remotely, 0 for all; None when nothing goes remote.
        remote_engines: N_prfaas.
        prefill_engines: N_p, of the local ones.
        decode_engines: N_d, of the local ones.
        requests_s: Lambda_max.
        stages: remote prefill, link, local prefill and local decode, in this order.
        long_tokens: l_long; the longest length when nothing goes remote.
        short_tokens: l_short; the shortest length when everything does.
        egress_bytes_s: what leaves the remote site at Lambda_max, on average.
        decode: the batch that the objective allows.
        first_token_mean_s: seconds of a prefill with nothing before it; no queue, no transfer, no decode step.
        first_token_p90_s: the same, of nine in ten.
        reasons: what a reader should know of how it came about; may be empty.
        caveats: what of the profiles was not measured.
    """

    threshold_tokens: int | None
    remote_engines: int
    prefill_engines: int
    decode_engines: int
    requests_s: float
    stages: tuple[Stage, ...]
    long_tokens: float
    short_tokens: float
    egress_bytes_s: float
    decode: OperatingPoint
    first_token_mean_s: float
    first_token_p90_s: float
    reasons: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()

    def stage(self, name: StageName) -> Stage:
        """One of ``stages``."""
        return next(each for each in self.stages if each.name == name)

    @property
    def binding(self) -> StageName:
        """The stage that more of would serve more requests."""
        return max(self.stages, key=lambda each: each.utilisation).name

    @property
    def remote_share(self) -> float:
        """p, of the requests."""
        return self.stage("remote prefill").share


@dataclass(frozen=True, slots=True)
class Purchase:
    """Something that could be bought, and the best plan with it.

    Attributes:
        what: in words.
        gain_requests_s: by how much Lambda_max grows; 0 when something else binds.
        plan: the fleet divided anew.
    """

    what: str
    gain_requests_s: float
    plan: Plan
