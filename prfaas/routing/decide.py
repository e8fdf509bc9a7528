"""Local or remote: the two policies, each with the words for what tipped it."""

from prfaas.routing.case import Case
from prfaas.routing.placement import Candidate
from prfaas.routing.remote import Option


def remote_reasons(case: Case, here: Candidate, there: Option) -> tuple[bool, tuple[str, ...]]:
    """Whether the best way from another site is taken rather than the best one within the site, and why.

    Both have a known length, and the site would have to compute more than the link's threshold itself.
    """
    local_s, remote_s = here.first_token_s, there.candidate.first_token_s
    if not case.is_predictive:
        return True, by_threshold(case, here, there)
    if local_s is None or remote_s is None:
        unknown = here.prefill or here.decode if local_s is None else there.candidate.prefill
        return True, (*by_threshold(case, here, there), f"nothing is predicted: how fast {unknown} is, is unknown")
    is_won = remote_s < local_s * (1 - case.policy.margin)
    times = f"the first token is predicted in {remote_s:.2f} s by way of {there.link.source}, in {local_s:.2f} s here"
    reason = times if is_won else f"{times}: no gain above the margin of {case.policy.margin:.0%}"
    speeds = f"speeds: {there.candidate.prefill} {there.candidate.speed}, {here.prefill or here.decode} {here.speed}"
    left_out = ("the transfer's time is left out: the cache's size is unknown",) if case.fleet.cache is None else ()
    return is_won, (reason, speeds, *left_out)


def by_threshold(case: Case, here: Candidate, there: Option) -> tuple[str, ...]:
    """The paper's rule: with the link scarce l = l_total - l_pd; else l = l_total - max(l_prfaas, l_pd); l > t is
    prefilled remotely.

    Where l <= t only thanks to the cache of the other site, that cache has to cross either way. A transfer from the
    engine that holds it moves it, and l is computed there.
    """
    link, total = there.link, case.tokens
    threshold = case.policy.threshold_for(is_scarce=link.is_scarce)
    local_hit = total - (here.uncached_tokens or 0)
    counted_hit = local_hit if link.is_scarce else max(there.hit_tokens, local_hit)
    if total - counted_hit <= threshold:
        return (f"{there.candidate.prefill} has {there.hit_tokens} of {total} prompt tokens cached: they move here",)
    scarce = (f"the link from {link.source} is scarce: only the cache here counts",) if link.is_scarce else ()
    return (f"{_counted(total - counted_hit, total)} above the threshold of {threshold}", *scarce)


def within_threshold(case: Case, uncached_tokens: int) -> str:
    """Why a prompt is not even considered for another site."""
    return f"{_counted(uncached_tokens, case.tokens)} within the threshold of {case.policy.threshold_tokens}"


def _counted(uncached: int, total: int) -> str:
    if uncached == total:
        return f"{total} prompt tokens are"
    return f"{uncached} of {total} prompt tokens are not cached,"
