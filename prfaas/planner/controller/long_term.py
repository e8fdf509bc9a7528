"""The long time scale: which t and which division of the local engines the demand calls for.

Every plan answers two questions of the model:

- t: the one with which prefill is the least narrow, for the engines as they are (equation 7). It replaces the present
  one if that lets through ``threshold_margin`` more.
- N_p : N_d: what serves most of the demand with no stage busier than ``target_utilisation`` (equation 8 under demand).
  What serves no more than the present division by ``conversion_margin`` is not wanted, and nothing is as long as the
  present one suffices: nobody needs what is spare.
"""

from bisect import bisect_left
from dataclasses import dataclass, replace

from prfaas.planner.controller.model import Counts, Cuts, Division, FleetModel, Stage
from prfaas.planner.controller.seen_lengths import edges_tokens
from prfaas.planner.controller.settings import ControllerSettings

MAX_DIVISIONS = 32
"""Looked at in one plan, each about 0.1 ms: the gateway plans between requests. Of more engines every few are one step;
the next plan refines what is left."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a plan found.

    Attributes:
        now: the present division with the t chosen for it.
        wanted: the one to head for, with its own t; that of ``now`` when nothing else is worth a conversion.
        draining: the present one while engines drain on the way there.
        at_once: so many together.
        reason: why it is wanted, empty when it is the present one.
        threshold_reason: why t changed, empty when it did not.
    """

    now: Division
    wanted: Division
    draining: Division
    at_once: int = 1
    reason: str = ""
    threshold_reason: str = ""


def look(
    model: FleetModel,
    counts: Counts,
    threshold_tokens: int | None,
    demand_requests_s: float,
    settings: ControllerSettings,
    *,
    is_divided: bool,
) -> Outlook:
    """Plan anew.

    Args:
        threshold_tokens: the present one.
        is_divided: whether another division may be wanted at all.
    """
    cuts = model.cut(allowed_thresholds(model, settings))
    now, reason = _threshold(model, cuts, counts, threshold_tokens, settings)
    if not is_divided:
        return Outlook(now, now, now, threshold_reason=reason)
    wanted, why = _division(cuts, counts, now, demand_requests_s, settings)
    at_once, draining = _draining(model.cut([now.threshold_tokens]), counts, wanted, demand_requests_s)
    return Outlook(now, wanted, draining, at_once, why, reason)


def allowed_thresholds(model: FleetModel, settings: ControllerSettings) -> list[int | None]:
    """Ascending, None as the last; within the settings' bounds."""
    if not model.has_remote:
        return [None]
    low, high = settings.min_threshold_tokens, settings.max_threshold_tokens
    edges = edges_tokens(model.workload.lengths.atoms.tokens)
    found = {low, *(each for each in edges if each >= low and (high is None or each <= high))}
    return [*sorted(found), None]


def _threshold(
    model: FleetModel, cuts: Cuts, counts: Counts, present_tokens: int | None, settings: ControllerSettings
) -> tuple[Division, str]:
    """The division as it is, with the best t or with the present one, and why another one is better."""
    best = cuts.best(counts)
    if best.threshold_tokens == present_tokens:
        return best, ""
    kept = replace(model.cut([present_tokens]).division(counts), threshold_tokens=present_tokens)
    gain = best.prefill_requests_s - kept.prefill_requests_s
    if gain <= settings.threshold_margin * kept.prefill_requests_s and (present_tokens is None or model.has_remote):
        return kept, ""
    return best, (
        f"with {said(best.threshold_tokens)} prefill and links let {best.prefill_requests_s:.3g} requests/s through, "
        f"with {said(present_tokens)} only {kept.prefill_requests_s:.3g}"
    )


def _division(
    cuts: Cuts, counts: Counts, now: Division, demand_requests_s: float, settings: ControllerSettings
) -> tuple[Division, str]:
    """Among divisions that serve the same the one with the fewest conversions, and why it is wanted."""
    needed = demand_requests_s / settings.target_utilisation
    if now.requests_s >= needed:
        return now, ""
    movable = counts.prefill + counts.decode
    low = max(settings.min_prefill_engines - counts.shared, counts.fixed_prefill, 0)
    high = movable - max(settings.min_decode_engines - counts.shared, counts.fixed_decode, 0)
    found = now
    for prefill in _prefills(counts.prefill, low, high):
        other = cuts.best(replace(counts, prefill=prefill, decode=movable - prefill))
        if min(other.requests_s, needed) > min(found.requests_s, needed) * (1 + 1e-9):
            found = other
    if found is now or found.requests_s < now.requests_s * (1 + settings.conversion_margin):
        return now, ""
    return found, (
        f"{now.binding} binds at {now.requests_s:.3g} requests/s, and {demand_requests_s:.3g} arrive: "
        f"{found.prefill_engines}P:{found.decode_engines}D serve {found.requests_s:.3g}"
    )


def _prefills(present: int, low: int, high: int) -> list[int]:
    """Numbers of prefill engines to look at, the nearest to the present one first: all of them, or every few and both
    ends."""
    stride = -(-(high - low + 1) // MAX_DIVISIONS)
    found = {low, high, *range(present, high + 1, stride), *range(present, low - 1, -stride)} if stride > 0 else set()
    return sorted((each for each in found if low <= each <= high), key=lambda each: (abs(each - present), each))


def _draining(cuts: Cuts, counts: Counts, wanted: Division, demand_requests_s: float) -> tuple[int, Division]:
    """How many engines may drain together, and the present division meanwhile: one, or as many as the others of their
    role can do without."""
    more = wanted.prefill_engines - counts.prefill
    stage: Stage = "local decode" if more > 0 else "local prefill"

    def is_too_many(several: int) -> bool:
        return _without(cuts, counts, more, several).limit(stage) < demand_requests_s

    at_once = 1 + bisect_left(range(2, abs(more) + 1), True, key=is_too_many)
    return at_once, _without(cuts, counts, more, at_once)


def _without(cuts: Cuts, counts: Counts, more_prefill: int, engines: int) -> Division:
    """The division without those that drain so that more prefill, or fewer."""
    if more_prefill > 0:
        return cuts.division(replace(counts, decode=counts.decode - engines))
    return cuts.division(replace(counts, prefill=counts.prefill - engines) if more_prefill else counts)


def said(threshold_tokens: int | None) -> str:
    """A threshold in a sentence."""
    return "none (all local)" if threshold_tokens is None else f"{threshold_tokens:,}"
