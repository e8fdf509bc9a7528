"""A scenario, or a part of it, as the planner sees it: what is asked, and with which engines and link."""

import itertools
from collections.abc import Iterable, Iterator

from prfaas.errors import ConfigError
from prfaas.planner.hardware import Hardware
from prfaas.planner.lengths import EmpiricalLengths
from prfaas.planner.simulator.cache import BLOCK_TOKENS
from prfaas.planner.simulator.request import Arrival
from prfaas.planner.simulator.spec import Change, EngineSpec, FleetSpec, Scenario
from prfaas.planner.trace_summary import BlockCache
from prfaas.planner.workload import Workload

MAX_ARRIVALS = 200_000
"""Enough to know a distribution; a trace may have millions."""


def workload_of(scenario: Scenario, begin_s: float = 0.0, end_s: float = float("inf")) -> Workload:
    """The uncached lengths of prompts that come in a part of the scenario, under one cache as large as all of the
    site's, and the mean output.

    Raises:
        ConfigError: no request comes then.
    """
    site = scenario.fleet.site
    cached_tokens = sum(engine.cache_tokens for engine in scenario.fleet.engines if engine.site == site)
    cache = BlockCache(cached_tokens // BLOCK_TOKENS, BLOCK_TOKENS)
    counts: dict[int, int] = {}
    output_tokens = seen = 0
    for arrival in itertools.islice(scenario.arrivals(), MAX_ARRIVALS):
        if arrival.at_s >= end_s:
            break
        new = arrival.prompt_tokens - _hit(cache, arrival)
        if arrival.at_s >= begin_s:
            counts[new] = counts.get(new, 0) + 1
            output_tokens, seen = output_tokens + arrival.output_tokens, seen + 1
    if not seen:
        raise ConfigError(f"{scenario.name}: no request comes from {begin_s:g} to {end_s:g} s: nothing to plan for")
    return Workload(EmpiricalLengths.counted(counts), output_tokens / seen)


def split_engines(fleet: FleetSpec) -> list[EngineSpec]:
    """The site's engines that either prefill or decode."""
    return [engine for engine in fleet.engines if engine.site == fleet.site and engine.role != "both"]


def hardware_of(fleet: FleetSpec, changes: Iterable[Change] = (), at_s: float = 0.0) -> Hardware | None:
    """What the planner divides up after the changes until ``at_s``: all remote sites together as one. None where no
    local engine can be divided."""
    local = split_engines(fleet)
    if not local:
        return None
    egress = {link.source: link.bandwidth_bytes_s for link in fleet.links}
    full, down = dict(egress), set[str]()
    for change in sorted(changes, key=lambda each: each.at_s):
        if change.at_s <= at_s:
            _apply(change, egress, full, down)
    remote = [
        engine
        for engine in fleet.engines
        if engine.site != fleet.site and egress[engine.site] > 0 and not {engine.site, engine.name} & down
    ]
    here = [engine for engine in local if engine.name not in down]
    reached = {engine.site for engine in remote}
    return Hardware(
        next(engine.profile for engine in local if engine.profile.decode is not None),
        len(here),
        remote[0].profile if remote else None,
        len(remote),
        sum(rate for source, rate in egress.items() if source in reached),
    )


def boundaries_s(scenario: Scenario, every_s: float, end_s: float) -> Iterator[float]:
    """Where phases begin: at the changes, and every so often."""
    regular = {at * every_s for at in range(int(end_s / every_s) + 1)}
    yield from sorted(regular | {each.at_s for each in scenario.changes if each.at_s < end_s})


def _hit(cache: BlockCache, arrival: Arrival) -> int:
    return cache.admit_blocks(arrival.block_ids, arrival.prompt_tokens)


def _apply(change: Change, egress: dict[str, float], full: dict[str, float], down: set[str]) -> None:
    if change.kind == "bandwidth":
        egress[change.target] = change.value
    elif change.kind in ("link_down", "link_up"):
        egress[change.target] = full[change.target] if change.kind == "link_up" else 0.0
    elif change.kind in ("site_down", "engine_down"):
        down.add(change.target)
    else:
        down.discard(change.target)
