"""How long prefills take: seconds to the first token with nothing waiting, no transfer and no decode step."""

import functools
from dataclasses import dataclass

import numpy as np

from prfaas.planner.curve import FloatArray
from prfaas.planner.hardware import Hardware
from prfaas.planner.workload import Workload


@dataclass(frozen=True)
class PrefillSeconds:
    """A distribution: seconds, ascending, and weights that add up to 1."""

    seconds: FloatArray
    weights: FloatArray

    @property
    def mean_s(self) -> float:
        return float(self.seconds @ self.weights)

    def quantile_s(self, share: float) -> float:
        """What this share of the requests does not exceed."""
        return float(self.quantiles_s(np.array([share]))[0])

    def quantiles_s(self, shares: FloatArray) -> FloatArray:
        """The same of several shares."""
        at = np.searchsorted(self._shares, shares - 1e-9)
        return np.asarray(self.seconds[np.minimum(at, len(self.seconds) - 1)], np.float64)

    @functools.cached_property
    def _shares(self) -> FloatArray:
        return np.cumsum(self.weights)


def prefill_seconds(hardware: Hardware, workload: Workload, threshold_tokens: float) -> PrefillSeconds:
    """Each request prefilled where the threshold sends it; infinity keeps all local.

    A threshold that sends something needs a remote engine's profile.
    """
    atoms = workload.lengths.atoms
    is_remote = atoms.tokens > threshold_tokens
    seconds = np.empty_like(atoms.tokens)
    seconds[~is_remote] = hardware.local.prefill.at(atoms.tokens[~is_remote])
    if is_remote.any():
        assert hardware.remote is not None
        seconds[is_remote] = hardware.remote.prefill.at(atoms.tokens[is_remote])
    order = np.argsort(seconds, kind="stable")
    return PrefillSeconds(seconds[order], atoms.weights[order])
