"""The closed forms: where equations 7 and 8 hold. The search does not need them; they check it."""

import numpy as np

from prfaas.errors import ConfigError
from prfaas.planner import throughput
from prfaas.planner.curve import FloatArray
from prfaas.planner.grid import Averaging, Grid
from prfaas.planner.hardware import Hardware
from prfaas.planner.workload import Slo, Workload

PARTS, ROUNDS = 64, 6
"""An interval of a million tokens shrinks to less than a millionth of one."""


def balanced_threshold_tokens(
    hardware: Hardware,
    workload: Workload,
    slo: Slo,
    prefill_engines: int,
    *,
    averaging: Averaging = "mean_length",
) -> float:
    """The threshold of equation 7, where remote and local prefill are equally narrow, by narrowing an interval.

    There is one where a higher threshold never leaves the remote site with more to do, which is always so with
    ``each_length`` and may fail with ``mean_length`` if attention takes nearly all of a prefill. Where lengths come in
    steps it is the length at which the two change places.
    """
    _demand_remote(hardware)
    low, high = 0.0, workload.lengths.max_tokens
    for _ in range(ROUNDS):
        inner = np.linspace(low, high, PARTS + 1)[1:-1]
        grid = _column(hardware, workload, slo, inner, prefill_engines, averaging)
        rates = grid.remote_prefill, grid.local_prefill[:, 0], grid.split.long_share
        is_low = np.asarray(throughput.threshold_imbalance(*rates)) < 0
        at = int(np.argmin(is_low)) if not is_low.all() else len(inner)
        low, high = float([low, *inner][at]), float([*inner, high][at])
    return high


def balanced_prefill_engines(
    hardware: Hardware,
    workload: Workload,
    slo: Slo,
    threshold_tokens: float,
    *,
    averaging: Averaging = "mean_length",
) -> float:
    """The number of local prefill engines of equation 8, where prefill and decode are equally narrow; seldom whole."""
    _demand_remote(hardware)
    grid = _column(hardware, workload, slo, np.array([threshold_tokens]), hardware.local_engines, averaging)
    point = grid.decode
    per_engine = throughput.decode_requests_s(1.0, point.batch, point.step_s, workload.output_tokens)
    return throughput.balanced_prefill_engines(
        hardware.local_engines, float(grid.remote_prefill[0]), float(grid.short_prefill_s[0]), float(per_engine)
    )


def _column(
    hardware: Hardware,
    workload: Workload,
    slo: Slo,
    thresholds_tokens: FloatArray,
    prefill_engines: int,
    averaging: Averaging,
) -> Grid:
    assert hardware.local.decode is not None
    point = hardware.local.decode.operating_point(slo.token_s)
    return Grid(hardware, workload, point, thresholds_tokens, np.array([float(prefill_engines)]), averaging)


def _demand_remote(hardware: Hardware) -> None:
    if not hardware.has_remote:
        raise ConfigError("nothing to balance: there is no remote engine, or no link to it")
