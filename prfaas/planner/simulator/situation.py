"""A scenario, or a part of it, as the planner sees it: what is asked, and with which engines and link."""

import bisect
import itertools
from collections.abc import Iterable, Sequence

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


def workload_of(scenario: Scenario) -> Workload:
    """The uncached lengths of the scenario's prompts and the mean output, of the first ``MAX_ARRIVALS``.

    Raises:
        ConfigError: no request comes.
    """
    found = _workloads(scenario, itertools.islice(scenario.arrivals(), MAX_ARRIVALS), [0.0])[0]
    if found is None:
        raise ConfigError(f"{scenario.name}: no request comes: there is nothing to plan for")
    return found


def opening_of(scenario: Scenario, until_s: float) -> Workload | None:
    """The same of what comes before ``until_s``, None where nothing does."""
    first = itertools.takewhile(lambda arrival: arrival.at_s < until_s, scenario.arrivals())
    return _workloads(scenario, itertools.islice(first, MAX_ARRIVALS), [0.0])[0]


def workloads_of(scenario: Scenario, starts_s: Sequence[float]) -> list[Workload | None]:
    """The same of each part of it, from one start to the next; ascending, the first at 0. None where nothing comes."""
    return _workloads(scenario, scenario.arrivals(), starts_s)


def _workloads(scenario: Scenario, arrivals: Iterable[Arrival], starts_s: Sequence[float]) -> list[Workload | None]:
    """In one pass, under one cache as large as all of the site's."""
    site = scenario.fleet.site
    cached_tokens = sum(engine.cache_tokens for engine in scenario.fleet.engines if engine.site == site)
    cache = BlockCache(cached_tokens // BLOCK_TOKENS, BLOCK_TOKENS)
    counts: list[dict[int, int]] = [{} for _ in starts_s]
    output_tokens = [0] * len(starts_s)
    for arrival in arrivals:
        at = bisect.bisect_right(starts_s, arrival.at_s) - 1
        new = arrival.prompt_tokens - cache.admit_blocks(arrival.block_ids, arrival.prompt_tokens)
        counts[at][new] = counts[at].get(new, 0) + 1
        output_tokens[at] += arrival.output_tokens
    return [
        Workload(EmpiricalLengths.counted(each), total / sum(each.values())) if each else None
        for each, total in zip(counts, output_tokens, strict=True)
    ]


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


def _apply(change: Change, egress: dict[str, float], full: dict[str, float], down: set[str]) -> None:
    if change.kind == "bandwidth":
        egress[change.target] = change.value
    elif change.kind in ("link_down", "link_up"):
        egress[change.target] = full[change.target] if change.kind == "link_up" else 0.0
    elif change.kind in ("site_down", "engine_down"):
        down.add(change.target)
    else:
        down.discard(change.target)
