"""Serving a request within the site: which engine decodes, and which one prefills."""

from prfaas.routing.case import Case
from prfaas.routing.placement import Candidate
from prfaas.routing.predict import Path
from prfaas.routing.rank import best_first
from prfaas.routing.score import score
from prfaas.routing.snapshot import EngineState

KEPT_LOCAL = 2
"""Prefill engines of the site that are weighed to the end: the best, and one to fall back to."""


def choose_decoders(case: Case, decoders: list[EngineState], count: int) -> list[EngineState]:
    """The best engines to decode the request, best first: prefix affinity weighed against load."""
    weights, tokens = case.policy.weights, case.tokens
    pairs = zip(decoders, case.hits(decoders), strict=True)
    costs = [-score(engine, tokens, hit, weights) for engine, hit in pairs]
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
    times = [case.predicted_s(engine, hit, path) for engine, hit in zip(prefillers, hits, strict=True)]
    costs = [case.cost(engine, hit, time_s) for engine, hit, time_s in zip(prefillers, hits, times, strict=True)]
    chosen = best_first(costs, case.fleet.turn, KEPT_LOCAL)
    size = case.transfer_bytes(held)
    found = [
        Candidate(
            decode.name, prefillers[at].name, False, case.tokens - hits[at], size, times[at], prefillers[at].speed
        )
        for at in chosen
    ]
    is_alone_best = decode.can_prefill and case.cost(decode, held, alone.first_token_s) <= costs[chosen[0]]
    return [alone, *found] if is_alone_best else [*found, alone]
