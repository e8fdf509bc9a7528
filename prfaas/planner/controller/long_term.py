"""The long time scale: which t and which division of the local engines the demand calls for.

Every plan answers two questions of the model:

- t: the one with which prefill is the least narrow, for the engines as they are (equation 7). It replaces the present
  one if that lets through ``threshold_margin`` more.
- N_p : N_d: what serves most of the demand with no stage busier than ``target_utilisation`` (equation 8 under demand).
  What serves no more than the present division by ``conversion_margin`` is not wanted, and nothing is as long as the
  present one suffices: nobody needs what is spare.
"""

from dataclasses import dataclass, replace

from prfaas.planner.controller.model import Counts, Cuts, Division, FleetModel
from prfaas.planner.controller.seen_lengths import edges_tokens
from prfaas.planner.controller.settings import ControllerSettings


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a plan found.

    Attributes:
        now: the present division with the t chosen for it.
        wanted: the one to head for, with its own t; that of ``now`` when nothing else is worth a conversion.
        draining: the present one while an engine drains on the way there.
        reason: why it is wanted, empty when it is the present one.
        threshold_reason: why t changed, empty when it did not.
    """

    now: Division
    wanted: Division
    draining: Division
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
    less = _without_one(counts, wanted.prefill_engines - counts.prefill)
    return Outlook(now, wanted, model.cut([now.threshold_tokens]).division(less), why, reason)


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
    for prefill in sorted(range(low, high + 1), key=lambda each: abs(each - counts.prefill)):
        other = cuts.best(replace(counts, prefill=prefill, decode=movable - prefill))
        if min(other.requests_s, needed) > min(found.requests_s, needed) * (1 + 1e-9):
            found = other
    if found is now or found.requests_s < now.requests_s * (1 + settings.conversion_margin):
        return now, ""
    return found, (
        f"{now.binding} binds at {now.requests_s:.3g} requests/s, and {demand_requests_s:.3g} arrive: "
        f"{found.prefill_engines}P:{found.decode_engines}D serve {found.requests_s:.3g}"
    )


def _without_one(counts: Counts, more_prefill: int) -> Counts:
    """Without the engine that drains so that more prefill, or fewer."""
    if more_prefill > 0:
        return replace(counts, decode=counts.decode - 1)
    return replace(counts, prefill=counts.prefill - 1) if more_prefill < 0 else counts


def said(threshold_tokens: int | None) -> str:
    """A threshold in a sentence."""
    return "none (all local)" if threshold_tokens is None else f"{threshold_tokens:,}"
