"""Prefilling in another site: over which links, by which engines."""

from collections.abc import Mapping, Sequence

import msgspec

from prfaas.routing.case import Case
from prfaas.routing.placement import Candidate
from prfaas.routing.predict import Path, path_of
from prfaas.routing.rank import best_first
from prfaas.routing.snapshot import EngineState, LinkState

KEPT_REMOTE = 3
"""Engines elsewhere that are weighed to the end: the best, and two to fall back to."""


class Need(msgspec.Struct, frozen=True, gc=False):
    """What a remote prefill has to bring, and to beat.

    Attributes:
        decode: the engine that waits for the cache.
        held_tokens: prompt tokens in its cache; only the others cross the link.
        uncached_tokens: prompt tokens that the site would compute itself: l_total - l_pd.
        local_s: predicted seconds to the first token within the site, None when unknown.
        transfer_bytes: what crosses, None when the cache's size is unknown.
    """

    decode: EngineState
    held_tokens: int
    uncached_tokens: int
    local_s: float | None
    transfer_bytes: int | None


class Way(msgspec.Struct, frozen=True, gc=False):
    """An open link and what a transfer over it would meet."""

    link: LinkState
    path: Path


class Option(msgspec.Struct, frozen=True, gc=False):
    """A prefill engine elsewhere, as a candidate and with the link from its site."""

    candidate: Candidate
    link: LinkState
    hit_tokens: int


def remote_options(case: Case, need: Need, engines: Sequence[EngineState]) -> tuple[list[Option], tuple[str, ...]]:
    """The best prefill engines of other sites, best first, the second from a further site if there is one; or none, and
    the reasons why. ``engines`` are those that take requests."""
    site = case.fleet.site
    links = [link for link in case.fleet.links if link.target == site != link.source]
    if not links:
        return [], (f"no link leads to site {site}",)
    obstacles = {link.source: obstacle(case, link, need) for link in links}
    ways = {link.source: Way(link, _path(case, link, need)) for link in links if not obstacles[link.source]}
    if not ways:
        return [], tuple(obstacles.values())
    reachable = [engine for engine in engines if engine.site in ways]
    if not reachable:
        lacking = f" has the adapter {case.features.adapter}" if case.features.adapter else ""
        return [], (f"no healthy prefill engine in a linked site{lacking}", *filter(None, obstacles.values()))
    return _choose(case, need, reachable, ways)


def obstacle(case: Case, link: LinkState, need: Need) -> str:
    """Why no cache may come over the link now, empty when it may."""
    source, sites, left = link.source, case.features.tenant_sites, link.budget_left_bytes
    if sites is not None and source not in sites:
        return f"the tenant may not use site {source}"
    if link.is_broken:
        return f"the link from {source} is broken"
    if left is not None and left <= (need.transfer_bytes or 0):
        return f"the link from {source} has {max(left, 0) / 1e6:.1f} MB left of its egress budget"
    threshold = case.policy.threshold_for(is_scarce=link.is_scarce)
    if need.uncached_tokens <= threshold:
        return f"{need.uncached_tokens} prompt tokens are within {threshold}, the threshold while the link is scarce"
    return ""


def _path(case: Case, link: LinkState, need: Need) -> Path:
    return path_of(link, case.fleet.cache, case.tokens - need.held_tokens, case.policy.hand_over_s)


def _choose(
    case: Case, need: Need, engines: Sequence[EngineState], ways: Mapping[str, Way]
) -> tuple[list[Option], tuple[str, ...]]:
    """Weigh the engines. Their times are predicted only where something depends on them."""
    hits = case.hits(engines)
    times: list[float | None] | None = None
    if case.is_predictive or case.slo_s is not None:
        pairs = zip(engines, hits, strict=True)
        times = [case.predicted_s(engine, hit, ways[engine.site].path) for engine, hit in pairs]
        timely = [at for at, time_s in enumerate(times) if not _is_late(time_s, case.slo_s, need.local_s)]
        if not timely:
            soonest_s = min(time_s for time_s in times if time_s is not None)
            late = f"the first token is predicted in {soonest_s:.2f} s by way of another site"
            return [], (f"{late}: too late for the objective of {case.slo_s:g} s",)
        engines, hits, times = [engines[at] for at in timely], [hits[at] for at in timely], [times[at] for at in timely]
    costs = case.costs(engines, hits, times, [ways[engine.site].link for engine in engines])
    chosen = _spread([engine.site for engine in engines], costs, case.fleet.turn)
    return [_option(case, need, engines[at], hits[at], ways) for at in chosen], ()


def _is_late(time_s: float | None, slo_s: float | None, local_s: float | None) -> bool:
    """Whether the objective would be missed, and not by less than within the site."""
    if slo_s is None or time_s is None or time_s <= slo_s:
        return False
    return local_s is None or local_s <= time_s


def _spread(sites: Sequence[str], costs: Sequence[float], turn: int) -> list[int]:
    """The best positions; the second place is for a further site, because engines of one site fail together."""
    first, *others = best_first(costs, turn, KEPT_REMOTE)
    further = [at for at, site in enumerate(sites) if site != sites[first]]
    if further:
        second = min(further, key=costs.__getitem__)
        others = [second, *(at for at in others if at != second)]
    return [first, *others][:KEPT_REMOTE]


def _option(case: Case, need: Need, engine: EngineState, hit: int, ways: Mapping[str, Way]) -> Option:
    way = ways[engine.site]
    candidate = Candidate(
        decode=need.decode.name,
        prefill=engine.name,
        is_remote=True,
        uncached_tokens=case.tokens - hit,
        transfer_bytes=need.transfer_bytes,
        first_token_s=case.predicted_s(engine, hit, way.path),
        speed=engine.speed,
    )
    return Option(candidate, way.link, hit)
