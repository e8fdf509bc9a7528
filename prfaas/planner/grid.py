"""The model over all pairs of a threshold and a number of local prefill engines at once.

Arrays have thresholds along the first axis and numbers of prefill engines along the second.
"""

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from prfaas.planner import throughput
from prfaas.planner.curve import Curve, FloatArray
from prfaas.planner.decode import OperatingPoint
from prfaas.planner.hardware import Hardware
from prfaas.planner.lengths import Split
from prfaas.planner.workload import Slo, Workload

Averaging = Literal["mean_length", "each_length"]
"""The paper takes the prefill of the mean length, T(E[L]); the mean prefill, E[T(L)], is what a queue sees. The former
is the smaller one where T bends upwards, so it promises too much where attention takes much of a prefill."""


@dataclass(frozen=True)
class Grid:
    """One fleet and workload, evaluated at ``thresholds_tokens`` x ``prefill_engines``."""

    hardware: Hardware
    workload: Workload
    decode: OperatingPoint
    thresholds_tokens: FloatArray
    prefill_engines: FloatArray
    averaging: Averaging = "mean_length"

    @functools.cached_property
    def split(self) -> Split:
        return self.workload.lengths.split(self.thresholds_tokens)

    @functools.cached_property
    def long_prefill_s(self) -> FloatArray:
        """T_prefill of the remote engines for what they get."""
        assert self.hardware.remote is not None
        return self._mean(self.hardware.remote.prefill, self.split.long_tokens, is_long=True)

    @functools.cached_property
    def short_prefill_s(self) -> FloatArray:
        """T_prefill of the local engines for what stays."""
        return self._mean(self.hardware.local.prefill, self.split.short_tokens, is_long=False)

    @functools.cached_property
    def long_cache_bytes(self) -> FloatArray:
        """S_kv of what crosses the link."""
        assert self.hardware.remote is not None
        return self._mean(self.hardware.remote.cache, self.split.long_tokens, is_long=True)

    @functools.cached_property
    def link(self) -> FloatArray:
        """Requests/s that cross the link, by threshold."""
        if not self.hardware.has_remote:
            return np.zeros_like(self.thresholds_tokens)
        return np.asarray(throughput.link_requests_s(self.hardware.egress_bytes_s, self.long_cache_bytes))

    @functools.cached_property
    def remote_prefill(self) -> FloatArray:
        """Theta_prfaas, by threshold."""
        if not self.hardware.has_remote:
            return np.zeros_like(self.thresholds_tokens)
        engines, egress_bytes_s = float(self.hardware.remote_engines), self.hardware.egress_bytes_s
        rate = throughput.remote_prefill_requests_s(engines, self.long_prefill_s, egress_bytes_s, self.long_cache_bytes)
        return np.asarray(rate)

    @functools.cached_property
    def local_prefill(self) -> FloatArray:
        """Theta_pd_p, by threshold and engines."""
        rate = throughput.local_prefill_requests_s(self.prefill_engines[None, :], self.short_prefill_s[:, None])
        return np.asarray(rate)

    @functools.cached_property
    def local_decode(self) -> FloatArray:
        """Theta_pd_d, by engines."""
        engines = self.hardware.local_engines - self.prefill_engines
        batch, step_s, output_tokens = self.decode.batch, self.decode.step_s, self.workload.output_tokens
        return np.asarray(throughput.decode_requests_s(engines, batch, step_s, output_tokens))

    @functools.cached_property
    def prefill_limit(self) -> FloatArray:
        """What the whole fleet serves as far as prefill and the link go."""
        share = self.split.long_share[:, None]
        return np.asarray(
            throughput.prefill_limit_requests_s(self.remote_prefill[:, None], self.local_prefill, share), np.float64
        )

    @functools.cached_property
    def served(self) -> FloatArray:
        """Lambda_max."""
        share = self.split.long_share[:, None]
        rate = throughput.served_requests_s(
            self.remote_prefill[:, None], self.local_prefill, self.local_decode[None, :], share
        )
        return np.asarray(rate)

    def in_time_share(self, seconds: float) -> FloatArray:
        """Share of the requests whose prefill takes at most so long, by threshold."""
        atoms, local = self.workload.lengths.atoms, self.hardware.local.prefill
        local_in_time = np.where(local.at(atoms.tokens) <= seconds, atoms.weights, 0.0)
        remote_in_time = np.zeros_like(local_in_time)
        if self.hardware.has_remote and self.hardware.remote is not None:
            remote_in_time = np.where(self.hardware.remote.prefill.at(atoms.tokens) <= seconds, atoms.weights, 0.0)
        at = np.searchsorted(atoms.tokens, self.thresholds_tokens, side="right")
        return np.concatenate([[0.0], np.cumsum(local_in_time)])[at] + _tails(remote_in_time)[at]

    def is_allowed(self, slo: Slo) -> npt.NDArray[np.bool_]:
        """Thresholds that keep the objective for the first token; all of them where none does, or there is none."""
        if slo.first_token_p90_s is None:
            return np.ones(len(self.thresholds_tokens), np.bool_)
        is_kept = self.in_time_share(slo.first_token_p90_s) >= 0.9 - 1e-9
        return is_kept if is_kept.any() else ~is_kept

    def best(self, slo: Slo) -> tuple[int, int]:
        """The pair that serves the most; among equals the one with the most prefill to spare, which is equation 7's.

        With an objective for the first token only thresholds that keep it, unless none does.
        """
        served = np.where(self.is_allowed(slo)[:, None], self.served, 0.0)
        is_best = served >= served.max() * (1 - 1e-12)
        at = int(np.argmax(np.where(is_best, self.prefill_limit, -1.0)))
        first, second = np.unravel_index(at, served.shape)
        return int(first), int(second)

    def _mean(self, curve: Curve, mean_tokens: FloatArray, *, is_long: bool) -> FloatArray:
        """Of a quantity over what is longer than each threshold, or over the rest."""
        if self.averaging == "mean_length":
            return curve.at(mean_tokens)
        atoms = self.workload.lengths.atoms
        at = np.searchsorted(atoms.tokens, self.thresholds_tokens, side="right")
        weights, values = _tails(atoms.weights), _tails(atoms.weights * curve.at(atoms.tokens))
        mass, total = (weights[at], values[at]) if is_long else (weights[0] - weights[at], values[0] - values[at])
        is_there = mass > 1e-9
        return np.where(is_there, total / np.where(is_there, mass, 1.0), curve.at(mean_tokens))


def _tails(weights: FloatArray) -> FloatArray:
    """Sums from each place to the end, and 0 after it."""
    return np.concatenate([np.cumsum(weights[::-1])[::-1], [0.0]])
