"""Serving a request within the site: which engine decodes, and which one prefills."""

from prfaas.routing.case import Case
from prfaas.routing.placement import Candidate
from prfaas.routing.predict import Path
from prfaas.routing.rank import best_first
from prfaas.routing.score import scores
from prfaas.routing.snapshot import EngineState

KEPT_LOCAL = 2
"""Prefill engines of the site that are weighed to the end: the best, and one to fall back to."""
FAIR_SHARE, FEW_REQUESTS = 1.25, 2
"""An engine has more than its share from so many times the mean on, and a few: then a cached prompt is not worth the
wait for a place in its batch (decision 046)."""
CROWDED = 1e3
"""Cost of having more than that: beyond any score."""


def choose_decoders(case: Case, decoders: list[EngineState], count: int) -> list[EngineState]:
    """The best engines to decode the request, best first: prefix affinity weighed against load, and engines that have
    more than their share last."""
    weights, tokens = case.policy.weights, case.tokens
    costs = [-each for each in scores(decoders, case.hits(decoders), tokens, weights)]
    if case.features.hits:  # without affinity load alone spreads requests
        most = FAIR_SHARE * sum(engine.inflight for engine in decoders) / len(decoders) + FEW_REQUESTS
        costs = [cost + CROWDED * (engine.inflight > most) for engine, cost in zip(decoders, costs, strict=True)]
    return [decoders[at] for at in best_first(costs, case.fleet.turn, count)]


def local_candidates(case: Case, decode: EngineState, prefillers: list[EngineState]) -> list[Candidate]:
    """The ways to serve within the site, best first.

    ``prefillers`` are engines that may hand their cache to ``decode``, which alone is always among the ways: after them
    if it is not meant to prefill, and the only one if the hand-over would cost more than it saves.
    """
    alone, held = case.alone(decode), case.hit(decode)
    if not prefillers or case.tokens - held <= case.policy.few_tokens:
        return [alone]
    path = Path(end_s=case.policy.hand_over_s)  # the site's own network is taken to be no obstacle
    hits = case.hits(prefillers)
    costs = _costs(case, prefillers, hits, path)
    size = case.transfer_bytes(held)
    chosen = best_first(costs, case.fleet.turn, KEPT_LOCAL)
    found = [_handed_over(case, decode, prefillers[at], hits[at], path, size) for at in chosen]
    if not decode.can_prefill or case.costs([decode], [held], [alone.first_token_s])[0] > costs[chosen[0]]:
        return [*found, alone]
    return [alone, *found]


def _costs(case: Case, engines: list[EngineState], hits: list[int], path: Path) -> list[float]:
    """Times are predicted only where something depends on them."""
    if not case.is_predictive:
        return case.costs(engines, hits, None)
    pairs = zip(engines, hits, strict=True)
    return case.costs(engines, hits, [case.predicted_s(engine, hit, path) for engine, hit in pairs])


def _handed_over(
    case: Case, decode: EngineState, prefill: EngineState, hit: int, path: Path, size: int | None
) -> Candidate:
    time_s = case.predicted_s(prefill, hit, path)
    return Candidate(decode.name, prefill.name, False, case.tokens - hit, size, time_s, prefill.speed)
