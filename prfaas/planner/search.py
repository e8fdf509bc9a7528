"""The search: every threshold of a grid with every division of the local engines, and the best of them explained."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from prfaas.errors import ConfigError
from prfaas.planner.curve import FloatArray
from prfaas.planner.explain import explained
from prfaas.planner.grid import Averaging, Grid
from prfaas.planner.hardware import Hardware
from prfaas.planner.plan import Plan, Purchase
from prfaas.planner.workload import Slo, Workload

THRESHOLDS = 1000
"""At least so many steps up to the longest prompt: a hundredth of a percent of Lambda_max is lost between two."""
MAX_CELLS = 200_000
"""Thresholds x divisions at once, some ten milliseconds; more than 150 engines are searched coarsely, then closely."""
MORE_EGRESS_BYTES_S = 10e9 / 8


def plan(
    hardware: Hardware,
    workload: Workload,
    slo: Slo,
    *,
    prefill_engines: int | None = None,
    averaging: Averaging = "mean_length",
) -> Plan:
    """The threshold and the division of the local engines that serve the most requests.

    Args:
        prefill_engines: N_p where it cannot be chosen; only the threshold is then.
        averaging: the paper's mean length, or each length; see ``Averaging``.

    Raises:
        ConfigError: an objective that no batch keeps, prompts beyond the profile, or local engines too few to both
            prefill and decode.
    """
    thresholds = thresholds_tokens(hardware, workload)
    low, high = (0, hardware.local_engines - 1) if prefill_engines is None else (prefill_engines, prefill_engines)
    step = 0
    while step != 1:
        step = -(-(high - low + 1) * len(thresholds) // MAX_CELLS)
        grid = grid_of(hardware, workload, slo, thresholds, np.arange(low, high + 1, step), averaging)
        row, column = grid.best(slo)
        # A summit that lies elsewhere, between two coarse divisions, is higher by less than a step of engines.
        low, high = max(low, low + (column - 1) * step), min(high, low + (column + 1) * step)
    if grid.served[row, column] <= 0:
        raise ConfigError(
            f"{hardware.local_engines} local engines, {grid.prefill_engines[column]:.0f} of which prefill, serve "
            "nothing: one at least has to decode, and without a remote site and a link to it another one has to prefill"
        )
    return explained(grid, row, column, slo)


def evaluate(
    hardware: Hardware,
    workload: Workload,
    slo: Slo,
    threshold_tokens: int | None,
    prefill_engines: int,
    *,
    averaging: Averaging = "mean_length",
) -> Plan:
    """What the model says of a division that somebody else chose; None keeps everything local, 0 nothing.

    ``requests_s`` is 0 where requests have to pass a stage without engines.
    """
    longest = workload.lengths.max_tokens
    thresholds = np.array([longest if threshold_tokens is None else float(threshold_tokens)])
    return explained(grid_of(hardware, workload, slo, thresholds, [prefill_engines], averaging), 0, 0, slo)


def all_local(hardware: Hardware, workload: Workload, slo: Slo, *, averaging: Averaging = "mean_length") -> Plan:
    """The best plan without the remote site: with engines of one kind, the paper's homogeneous fleet."""
    return plan(replace(hardware, remote_engines=0), workload, slo, averaging=averaging)


def all_remote(hardware: Hardware, workload: Workload, slo: Slo, *, averaging: Averaging = "mean_length") -> Plan:
    """Every prefill remote and every local engine decoding: the paper's naive heterogeneous fleet."""
    return evaluate(hardware, workload, slo, 0, 0, averaging=averaging)


def purchases(
    hardware: Hardware, workload: Workload, slo: Slo, *, averaging: Averaging = "mean_length"
) -> tuple[Purchase, ...]:
    """What one more of each thing would bring, the most first."""
    options = {"1 more local engine": replace(hardware, local_engines=hardware.local_engines + 1)}
    if hardware.remote is not None:
        options["1 more remote engine"] = replace(hardware, remote_engines=hardware.remote_engines + 1)
        egress_bytes_s = hardware.egress_bytes_s + MORE_EGRESS_BYTES_S
        options["10 Gbit/s more egress"] = replace(hardware, egress_bytes_s=egress_bytes_s)
    now = plan(hardware, workload, slo, averaging=averaging)
    found = []
    for what, more in options.items():
        then = plan(more, workload, slo, averaging=averaging)
        found.append(Purchase(what, max(then.requests_s - now.requests_s, 0.0), then))
    return tuple(sorted(found, key=lambda each: -each.gain_requests_s))


def threshold_step_tokens(longest_tokens: float) -> int:
    """1, 2 or 5 times a power of ten that divides the longest prompt into ``THRESHOLDS`` steps or a few more."""
    rough = max(longest_tokens / THRESHOLDS, 1.0)
    power = 10 ** math.floor(math.log10(rough))
    return int(max(step * power for step in (1, 2, 5) if step * power <= rough))


def thresholds_tokens(hardware: Hardware, workload: Workload) -> FloatArray:
    """Those that are searched, ascending; the first sends everything, the last nothing, and is the only one without a
    remote site."""
    longest = workload.lengths.max_tokens
    if not hardware.has_remote:
        return np.array([longest])
    return np.append(np.arange(0, longest, threshold_step_tokens(longest), dtype=np.float64), longest)


def grid_of(
    hardware: Hardware,
    workload: Workload,
    slo: Slo,
    thresholds_tokens: FloatArray,
    prefill_engines: Sequence[int] | npt.NDArray[np.int_],
    averaging: Averaging,
) -> Grid:
    """The model at these thresholds with these numbers of local prefill engines, both ascending."""
    if prefill_engines[0] < 0 or prefill_engines[-1] > hardware.local_engines:
        raise ConfigError(f"prefill_engines: {prefill_engines[0]}: there are {hardware.local_engines} local engines")
    assert hardware.local.decode is not None
    point = hardware.local.decode.operating_point(slo.token_s)
    return Grid(hardware, workload, point, thresholds_tokens, np.asarray(prefill_engines, np.float64), averaging)
