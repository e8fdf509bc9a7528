"""What a division of the fleet serves: the paper's equations, for a fleet as it is found.

The grid of ``prfaas.planner`` gives the quantities by threshold; three things are added that a running fleet has:

- *Engines that do both.* Fluid approximation: the engine's time divides freely between prefill and decode, without
  loss. With N_p, N_d and N_b engines that prefill, decode and do both, prefill takes w_p = (1-p) T_short and decode
  w_d = 1/d of an engine's seconds a request (d: requests/s that an engine decodes), and a demand is served if

      demand * w_p <= N_p + N_b     demand * w_d <= N_d + N_b     demand * (w_p + w_d) <= N_p + N_d + N_b

  Without such engines the third follows from the others, which are equations 4 and 5.
- *Several remote sites*, each with its link: Theta_prfaas is the sum of each site's equation 3. All are taken to have
  the same kind of engine.
- *A demand.* Below Lambda_max every stage has a utilisation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from prfaas.planner import throughput
from prfaas.planner.curve import FloatArray
from prfaas.planner.grid import Grid
from prfaas.planner.hardware import SLOWEST_LINK_BYTES_S, Hardware
from prfaas.planner.profile import EngineProfile
from prfaas.planner.workload import Slo, Workload

Stage = Literal["remote prefill", "link", "local prefill", "local decode", "local engines"]
STAGES: tuple[Stage, ...] = ("remote prefill", "link", "local prefill", "local decode", "local engines")
"""The last one is prefill and decode together; it binds only where engines do both."""


PREFILL_STAGES = (0, 1, 2, 4)
"""Those that t changes: all but decode."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Engines of the local site by role; ``shared`` ones do both, ``fixed`` ones keep theirs."""

    prefill: int
    decode: int
    shared: int = 0
    fixed_prefill: int = 0
    fixed_decode: int = 0


@dataclass(frozen=True, slots=True)
class Division:
    """A threshold and a division of the local engines, with what the model says of them.

    Attributes:
        threshold_tokens: t, None when nothing goes remote.
        requests_s: Lambda_max.
        prefill_requests_s: the same without decode alone: what t can change.
        limits_requests_s: requests/s of the whole fleet that each of ``STAGES`` allows; infinite where none passes.
        remote_share: p.
    """

    threshold_tokens: int | None
    prefill_engines: int
    decode_engines: int
    shared_engines: int
    requests_s: float
    prefill_requests_s: float
    limits_requests_s: tuple[float, ...]
    remote_share: float

    @property
    def binding(self) -> Stage:
        """The stage that is the narrowest."""
        return STAGES[int(np.argmin(self.limits_requests_s))]

    def limit(self, stage: Stage) -> float:
        """Requests/s that one stage allows."""
        return self.limits_requests_s[STAGES.index(stage)]


@dataclass(frozen=True)
class Cuts:
    """One workload on engines of these kinds, cut at several thresholds; what does not depend on the local division.

    Arrays are by threshold, the highest last.

    Attributes:
        thresholds_tokens: None for nothing remote.
        share: p.
        remote_requests_s: what the remote engines prefill.
        link_requests_s: what the links carry.
        prefill_s: an engine's seconds that the local prefill of a request takes on average, those remote included.
        decode_s: the same of decode.
    """

    thresholds_tokens: Sequence[int | None]
    share: FloatArray
    remote_requests_s: FloatArray
    link_requests_s: FloatArray
    prefill_s: FloatArray
    decode_s: float

    def best(self, counts: Counts) -> Division:
        """The threshold with which prefill is the least narrow: equation 7. Among equals the highest one: what a link
        brings nothing is not sent over it."""
        prefill = self._limits(counts)[list(PREFILL_STAGES)].min(axis=0)
        return self.division(counts, int(np.flatnonzero(prefill >= prefill.max() * (1 - 1e-9))[-1]))

    def division(self, counts: Counts, at: int = -1) -> Division:
        """What one of the thresholds makes of these engines."""
        limits = self._limits(counts)[:, at]
        return Division(
            self.thresholds_tokens[at] if self.share[at] > 0 else None,
            *(counts.prefill, counts.decode, counts.shared),
            *(float(limits.min()), float(limits[list(PREFILL_STAGES)].min())),
            tuple(limits.tolist()),
            float(self.share[at]),
        )

    def _limits(self, counts: Counts) -> FloatArray:
        """Of each stage, by threshold."""
        prefill, decode = counts.prefill + counts.shared, counts.decode + counts.shared
        every = counts.prefill + counts.decode + counts.shared
        rows = (
            throughput.limit_requests_s(self.remote_requests_s, self.share),
            throughput.limit_requests_s(self.link_requests_s, self.share),
            throughput.limit_requests_s(np.full_like(self.share, prefill), self.prefill_s),
            np.full_like(self.share, decode / self.decode_s),
            every / (self.prefill_s + self.decode_s),
        )
        return np.stack([np.asarray(row, np.float64) for row in rows])


@dataclass(frozen=True, slots=True)
class FleetModel:
    """Engines of these kinds and a workload.

    Attributes:
        local: has to have a decode profile.
        remote: None when nothing can be prefilled remotely.
        workload: no length may be beyond a profile's reach.
        sites: of each remote site its engines and what its link carries, in bytes/s.
        decode_factor: seconds of a decode step at work by the profile's.
    """

    local: EngineProfile
    remote: EngineProfile | None
    workload: Workload
    slo: Slo
    sites: tuple[tuple[int, float], ...] = ()
    decode_factor: float = 1.0

    @property
    def has_remote(self) -> bool:
        """Anything can be prefilled remotely at all."""
        return self.remote is not None and any(engines and egress for engines, egress in self.sites)

    def seconds_per_token(self) -> tuple[float, float]:
        """What a token of a prompt takes to prefill, locally and remotely, over all prompts; 0 where unknown."""
        atoms, mean = self.workload.lengths.atoms, self.workload.lengths.mean_tokens
        sides = (self.local, self.remote)
        local_s, remote_s = (float(side.prefill.at(atoms.tokens) @ atoms.weights) if side else 0.0 for side in sides)
        return local_s / mean, remote_s / mean

    def cut(self, thresholds_tokens: Sequence[int | None]) -> Cuts:
        """At these thresholds, ascending, None as the last if at all."""
        longest = self.workload.lengths.max_tokens
        cuts = np.array([longest if each is None else float(each) for each in thresholds_tokens])
        assert self.local.decode is not None
        point = self.local.decode.operating_point(self.slo.token_s)
        grid = Grid(
            Hardware(self.local, 1, self.remote), self.workload, point, cuts, np.zeros(1), averaging="each_length"
        )
        share = grid.split.long_share
        decode_s = self.decode_factor * point.step_s * self.workload.output_tokens / point.batch
        return Cuts(thresholds_tokens, share, *self._remote(grid), (1.0 - share) * grid.short_prefill_s, decode_s)

    def _remote(self, grid: Grid) -> tuple[FloatArray, FloatArray]:
        """Requests/s that the remote engines prefill and that the links carry, by threshold.

        With several sites the smaller of both is each site's own; it counts for whichever is the narrower in all.
        """
        if not self.has_remote:
            return np.zeros_like(grid.thresholds_tokens), np.zeros_like(grid.thresholds_tokens)
        engines = np.array([float(each) for each, _ in self.sites])[:, None]
        egress = np.array([each if each >= SLOWEST_LINK_BYTES_S else 0.0 for _, each in self.sites])[:, None]
        prefill = np.asarray(engines / grid.long_prefill_s[None, :])
        link = np.asarray(throughput.link_requests_s(egress, grid.long_cache_bytes[None, :]))
        both = np.minimum(prefill, link).sum(axis=0)
        prefill, link = prefill.sum(axis=0), link.sum(axis=0)
        return np.where(link < prefill, prefill, both), np.where(link < prefill, both, link)
