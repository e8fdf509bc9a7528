"""The placement decision. Pure: the same features, snapshot and policy give the same placement.

1 the engines that take requests     survey
2 the decode engine                  local: prefix affinity against load
3 the ways within the site           local: it alone, or a prefill engine beside it
4 the ways from other sites          remote: only if the site had to compute more than t tokens itself
5 local or remote                    decide: by threshold or by prediction
6 brown-out                          brown_out: a long prompt that would be computed beside many answers
"""

from prfaas.routing.brown_out import brown_out, is_starving
from prfaas.routing.case import Case
from prfaas.routing.decide import remote_reasons, within_threshold
from prfaas.routing.local import choose_decoders, local_candidates
from prfaas.routing.placement import Candidate, Placement, Refusal
from prfaas.routing.policy import Policy
from prfaas.routing.remote import Need, Option, remote_options
from prfaas.routing.snapshot import EngineState, FleetSnapshot, RequestFeatures
from prfaas.routing.survey import Survey, lacks, survey_of

MIN_HAND_OVER_TOKENS = 2
"""A prefill engine computes all tokens but the last, so a shorter prompt leaves it nothing to do."""
MAX_CANDIDATES = 4
"""Kept for the record: the chosen one and what it was compared with."""
MAX_ALTERNATIVES = 6
"""Two prefill engines elsewhere, two here, the decode engine alone, another one alone."""


def place(features: RequestFeatures, fleet: FleetSnapshot, policy: Policy) -> Placement | Refusal:
    """Choose the engines for a request, or say why none should get it.

    When no decode engine of the site is known to be healthy the best of all is tried, because that knowledge may be
    stale; the request then stays local.
    """
    sites = features.tenant_sites
    if sites is not None and fleet.site not in sites:
        reason = f"the tenant may not use site {fleet.site}"
        return Refusal(403, None, reason, "This key may not be used here.")
    survey = survey_of(fleet, features.adapter)
    if not survey.decoders:
        return _nobody(features, fleet)
    slo_s = policy.slo_first_token_s if features.first_token_slo_s is None else features.first_token_slo_s
    return _place(Case(features, fleet, policy, features.prompt_tokens or 0, slo_s), survey)


def _nobody(features: RequestFeatures, fleet: FleetSnapshot) -> Refusal:
    """No decode engine of the site may be asked."""
    decoders = [engine for engine in fleet.engines if engine.site == fleet.site and engine.can_decode]
    if decoders and all(lacks(engine, features.adapter) for engine in decoders):
        reason = f"no decode engine of site {fleet.site} has the adapter {features.adapter}"
        return Refusal(503, 1, reason, "No engine has this model now; try again.")
    reason = f"no decode engine of site {fleet.site} takes requests: all are draining or broken"
    return Refusal(503, 1, reason, "No engine takes requests now; try again.")


def _place(case: Case, survey: Survey) -> Placement | Refusal:
    decode, *spare = choose_decoders(case, survey.decoders, 2)
    obstacles = _transfer_obstacles(case, survey)
    here = local_candidates(case, decode, [] if obstacles else survey.prefillers)
    there, against = ([], obstacles) if obstacles else _ways_from_elsewhere(case, survey, decode, here[0])
    is_remote, reasons = remote_reasons(case, here[0], there[0]) if there else (False, against)
    remote = [option.candidate for option in there]
    further = [case.alone(engine) for engine in spare]
    if is_remote:
        return _placement([remote[0], *here, *remote[1:]], [*remote[1:], *here, *further], reasons)
    return _local(case, survey, decode, [*here, *further], remote, reasons)


def _transfer_obstacles(case: Case, survey: Survey) -> tuple[str, ...]:
    """Why the request cannot take its cache from another engine, wherever that is."""
    features, threshold, found = case.features, case.policy.threshold_tokens, case.features.local_reasons
    if features.prompt_tokens is None:
        if features.max_tokens is not None and features.max_tokens <= threshold:
            found = (*found, f"at most {features.max_tokens} prompt tokens are within the threshold of {threshold}")
        else:
            found = (*found, "the length of the prompt is known to the engine only")
    elif case.tokens < MIN_HAND_OVER_TOKENS:
        found = (*found, f"{case.tokens} prompt tokens leave nothing to prefill elsewhere")
    return (*found, "no local engine is known to be healthy") if survey.are_doubtful else found


def _ways_from_elsewhere(
    case: Case, survey: Survey, decode: EngineState, best_here: Candidate
) -> tuple[list[Option], tuple[str, ...]]:
    """The ways from other sites, or why there are none."""
    uncached = best_here.uncached_tokens or 0
    if uncached < MIN_HAND_OVER_TOKENS:
        return [], ("all prompt tokens but the last are cached here",)
    if uncached <= case.policy.threshold_tokens:
        return [], (within_threshold(case, uncached),)
    held = case.hit(decode)
    need = Need(decode, held, uncached, best_here.first_token_s, case.transfer_bytes(held))
    return remote_options(case, need, survey.elsewhere)


def _local(
    case: Case,
    survey: Survey,
    decode: EngineState,
    ways: list[Candidate],
    remote: list[Candidate],
    reasons: tuple[str, ...],
) -> Placement | Refusal:
    """The best of the ``ways`` within the site that starves nobody, or a refusal."""
    best, limits = ways[0], case.policy.brown_out
    tokens = case.features.min_tokens if best.uncached_tokens is None else best.uncached_tokens
    if best.prefill is None and tokens > case.policy.threshold_tokens and is_starving(decode, limits):
        handed_over = [way for way in ways if way.prefill is not None]
        idle = [engine for engine in survey.decoders if not is_starving(engine, limits)]
        if not handed_over and not idle:
            return brown_out(decode, tokens, reasons)
        relief = handed_over[0] if handed_over else case.alone(choose_decoders(case, idle, 1)[0])
        reasons = (*reasons, f"{decode.name} has too many answers running for so long a prefill")
        ways = [relief, *(way for way in ways if way != relief)]
    elif not decode.can_prefill and best.prefill is None and tokens > case.policy.few_tokens:
        reasons = (*reasons, f"no prefill engine of the site is free: {decode.name} prefills, too")
    return _placement([ways[0], *remote, *ways[1:]], ways[1:], reasons)


def _placement(candidates: list[Candidate], alternatives: list[Candidate], reasons: tuple[str, ...]) -> Placement:
    """The first candidate is the chosen one."""
    chosen = candidates[0]
    is_same_site = chosen.prefill is not None and not chosen.is_remote
    if is_same_site:
        reasons = (*reasons, f"{chosen.prefill} of the same site prefills")
    return Placement(
        decode=chosen.decode,
        prefill=chosen.prefill,
        reasons=reasons,
        is_same_site=is_same_site,
        candidates=tuple(candidates[:MAX_CANDIDATES]),
        alternatives=tuple(alternatives[:MAX_ALTERNATIVES]),
    )
