"""One cell of the grid as a plan: what each stage does, what users wait, and what a reader should know of it."""

import math

from prfaas.planner.first_token import prefill_seconds
from prfaas.planner.grid import Grid
from prfaas.planner.hardware import Hardware
from prfaas.planner.plan import Plan, Stage, StageName
from prfaas.planner.throughput import limit_requests_s
from prfaas.planner.workload import Slo


def explained(grid: Grid, row: int, column: int, slo: Slo) -> Plan:
    """The plan of one cell: a threshold's row and a number of prefill engines' column."""
    hardware, split, served = grid.hardware, grid.split, float(grid.served[row, column])
    share, prefill_engines = float(split.long_share[row]), int(grid.prefill_engines[column])
    threshold = float(grid.thresholds_tokens[row]) if share > 0 else math.inf
    first_token = prefill_seconds(hardware, grid.workload, threshold)
    p90_s = first_token.quantile_s(0.9)
    cache_bytes = float(grid.long_cache_bytes[row]) if share > 0 and hardware.remote else 0.0
    return Plan(
        None if math.isinf(threshold) else int(threshold),
        hardware.remote_engines,
        prefill_engines,
        hardware.local_engines - prefill_engines,
        served,
        _stages(grid, row, column, served),
        float(split.long_tokens[row]),
        float(split.short_tokens[row]),
        served * share * cache_bytes,
        grid.decode,
        first_token.mean_s,
        p90_s,
        _reasons(hardware, share, p90_s, slo),
        _caveats(hardware),
    )


def _stages(grid: Grid, row: int, column: int, served: float) -> tuple[Stage, ...]:
    """With the link and the remote engines apart, which equation 3 takes together."""
    share = float(grid.split.long_share[row])
    engines = float(grid.hardware.remote_engines)
    remote = engines / float(grid.long_prefill_s[row]) if grid.hardware.remote else 0.0
    rates = (remote, float(grid.link[row]), float(grid.local_prefill[row, column]), float(grid.local_decode[column]))
    names: tuple[StageName, ...] = ("remote prefill", "link", "local prefill", "local decode")
    shares = (share, share, 1.0 - share, 1.0)
    stages = []
    for name, rate, part in zip(names, rates, shares, strict=True):
        limit = float(limit_requests_s(rate, part))
        stages.append(Stage(name, rate, part, served / limit if limit > 0 else 1.0))
    return tuple(stages)


def _reasons(hardware: Hardware, share: float, p90_s: float, slo: Slo) -> tuple[str, ...]:
    reasons = []
    if hardware.remote is None or not hardware.remote_engines:
        reasons.append("all local: there is no remote engine")
    elif not hardware.egress_bytes_s:
        reasons.append("all local: the remote site has no link")
    elif not share:
        reasons.append("all local: a remote prefill would serve no more requests")
    if slo.first_token_p90_s is not None and p90_s > slo.first_token_p90_s:
        reasons.append(
            f"the objective of {slo.first_token_p90_s:g} s for the first token is missed: nine in ten prefills take up "
            f"to {p90_s:.3g} s even with nothing waiting"
        )
    return tuple(reasons)


def _caveats(hardware: Hardware) -> tuple[str, ...]:
    used = (hardware.local, hardware.remote) if hardware.has_remote else (hardware.local,)
    return tuple(f"{each.name}: {caveat}" for each in used if each for caveat in each.caveats)
