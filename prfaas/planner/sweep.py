"""Lambda_max as one thing after another changes: what the pictures of a plan show."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from prfaas.planner.curve import FloatArray
from prfaas.planner.grid import Grid
from prfaas.planner.hardware import MAX_ENGINES, Hardware
from prfaas.planner.plan import Plan
from prfaas.planner.search import grid_of, thresholds_tokens
from prfaas.planner.study import Question, Study
from prfaas.planner.throughput import limit_requests_s

MAX_DIVISIONS = 120
"""Rows of a picture; a larger fleet's divisions are sampled evenly."""
MAX_POINTS = 24
"""Plans along a line, some ten milliseconds each."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What each stage allows the whole fleet, in requests/s, by threshold; infinite where no request passes it."""

    thresholds_tokens: FloatArray
    remote_prefill: FloatArray
    link: FloatArray
    local_prefill: FloatArray
    local_decode: FloatArray
    served: FloatArray
    is_allowed: npt.NDArray[np.bool_]
    """By the objective for the first token."""


@dataclass(frozen=True, slots=True)
class Line:
    """The best plan for each of several amounts of one thing, ascending."""

    amounts: FloatArray
    plans: tuple[Plan, ...]

    @property
    def served(self) -> FloatArray:
        """Lambda_max, requests/s."""
        return np.array([each.requests_s for each in self.plans])


def limits_by_threshold(question: Question, prefill_engines: int) -> Limits:
    """With a fixed division of the local engines, for all thresholds that are searched."""
    grid = _grid(question, np.array([prefill_engines]))
    share, hardware = grid.split.long_share, question.hardware
    remote = hardware.remote_engines / grid.long_prefill_s if hardware.has_remote else np.zeros_like(share)
    return Limits(
        grid.thresholds_tokens,
        np.asarray(limit_requests_s(remote, share)),
        np.asarray(limit_requests_s(grid.link, share)),
        np.asarray(limit_requests_s(grid.local_prefill[:, 0], 1.0 - share)),
        np.full_like(share, grid.local_decode[0]),
        grid.served[:, 0],
        grid.is_allowed(question.slo),
    )


def grid_by_division(question: Question, prefill_engines: int) -> Grid:
    """All thresholds with all divisions that leave a decode engine, the given one among them."""
    most = question.hardware.local_engines - 1
    sampled = np.linspace(0, most, min(most + 1, MAX_DIVISIONS)).round().astype(int)
    return _grid(question, np.unique([*sampled, min(prefill_engines, most)]))


def by_egress(question: Question, study: Study) -> Line:
    """From no link to one that is enough, closely, and as far as the present one."""
    hardware = question.hardware
    knee = max(1.5 * study.enough_egress_bytes_s, 1e9 / 8)
    amounts = [*np.linspace(0, knee, MAX_POINTS), 1.1 * hardware.egress_bytes_s, hardware.egress_bytes_s]
    return _line(question, amounts, lambda amount: replace(hardware, egress_bytes_s=amount))


def by_remote_engines(question: Question) -> Line:
    """From none to twice as many and a few."""
    hardware = question.hardware
    amounts = _counts(0, 2 * hardware.remote_engines + 4, hardware.remote_engines)
    return _line(question, amounts, lambda amount: replace(hardware, remote_engines=int(amount)))


def by_local_engines(question: Question) -> Line:
    """From as few as can serve to twice as many and a few."""
    hardware = question.hardware
    fewest = 1 if hardware.has_remote else 2
    amounts = _counts(fewest, 2 * hardware.local_engines + 4, hardware.local_engines)
    return _line(question, amounts, lambda amount: replace(hardware, local_engines=int(amount)))


def _line(question: Question, amounts: Iterable[float], changed: Callable[[float], Hardware]) -> Line:
    ascending = np.unique(np.asarray([*amounts], np.float64))
    return Line(ascending, tuple(question.best(changed(float(each))) for each in ascending))


def _counts(low: int, high: int, kept: int) -> FloatArray:
    """At most ``MAX_POINTS`` whole numbers, evenly, and ``kept`` among them."""
    high = min(high, MAX_ENGINES)
    sampled = np.linspace(low, high, min(high - low + 1, MAX_POINTS)).round()
    return np.unique([*sampled, float(kept)])


def _grid(question: Question, prefill_engines: npt.NDArray[np.int_]) -> Grid:
    hardware, workload = question.hardware, question.workload
    thresholds = thresholds_tokens(hardware, workload)
    return grid_of(hardware, workload, question.slo, thresholds, prefill_engines, question.averaging)
