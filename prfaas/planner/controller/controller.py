"""The controller: the two time scales put together. Pure; its owner calls it from one task."""

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from prfaas.planner.controller.advice import Advice, Role
from prfaas.planner.controller.conversions import Conversions, Wish
from prfaas.planner.controller.decode_pace import DecodePace
from prfaas.planner.controller.estimates import Demand, Estimates
from prfaas.planner.controller.link_capacity import LinkCapacity
from prfaas.planner.controller.long_term import Outlook, look, said
from prfaas.planner.controller.model import Counts, FleetModel
from prfaas.planner.controller.pressure import Pressure, pressure_of
from prfaas.planner.controller.profiles import kinds_of
from prfaas.planner.controller.settings import ControllerSettings
from prfaas.planner.controller.short_term import ShortTerm
from prfaas.planner.controller.stock import Stock, stock_of
from prfaas.planner.controller.view import MAX_CHANGES, Change, ControllerState, division_view
from prfaas.planner.lengths import EmpiricalLengths
from prfaas.planner.profile import EngineProfile
from prfaas.planner.workload import Slo, Workload
from prfaas.routing.snapshot import FleetSnapshot

DEFAULT_SLO = Slo(token_s=0.05)
CAPACITY_CHANGE = 0.2
"""A link that carries so much more or less is planned with at once."""
MIN_EARLY_S = 5.0
"""Between two plans that come before their time: an engine that comes and goes may do so at every look."""
FEW_SHARE = 0.05
"""A t of 0 cannot be multiplied: it moves from where so many prompts would stay local."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """The last plan and what it was made with; ``per_token_s`` is what a token's prefill takes here and remotely."""

    outlook: Outlook
    lengths: EmpiricalLengths
    per_token_s: tuple[float, float]
    factors: tuple[float, float, float]
    at_s: float
    counts: tuple[int, int, int, int]
    capacity_bytes_s: float


class TwoScaleController:
    """See ``prfaas.planner.controller.advice.Controller``, which this is one of.

    Args:
        threshold_tokens: t at the beginning, until enough is known for a plan.
        local: the profile of the local engines; without one their speeds are taken from the snapshots, and without a
            decode profile in it no engine is converted.
        remote: the profile of the remote engines; the same.
        slo: what users are promised; the pace of tokens sets the batch that engines are expected to decode.
        convertible: names of the engines that may play either role; None for all that play one.
        former: the one that this one replaces: pauses between conversions, and their number in an hour, hold over both.

    Raises:
        ConfigError: a pace that the profile says no batch keeps.
    """

    def __init__(
        self,
        threshold_tokens: int | None,
        *,
        local: EngineProfile | None = None,
        remote: EngineProfile | None = None,
        slo: Slo = DEFAULT_SLO,
        settings: ControllerSettings | None = None,
        convertible: Collection[str] | None = None,
        former: "TwoScaleController | None" = None,
    ) -> None:
        self._settings = settings or ControllerSettings()
        if local is not None and local.decode is not None:
            local.decode.operating_point(slo.token_s)
        self._local, self._remote, self._slo = local, remote, slo
        self._convertible = None if convertible is None else frozenset(convertible)
        self._demand = Demand(self._settings)
        self._pace = DecodePace()
        self._links: dict[str, LinkCapacity] = {}
        self._short = ShortTerm(self._settings)
        before = former._conversions if former else Conversions(self._settings)
        self._conversions: Conversions = before.following(self._settings)
        self._planned = self._threshold = threshold_tokens
        self._plan: _Plan | None = None
        self._stock = Stock((), (), (), (), frozenset())
        self._pressure: Pressure | None = None
        self._steps = 0
        self._back_since_s: float | None = None
        self._is_lost = False
        self._now_s = 0.0
        self._early_s = float("-inf")
        self._advised = 0
        self._waits_for = ""
        self._changes: deque[Change] = deque(maxlen=MAX_CHANGES)

    def note_arrival(self, now_s: float, uncached_tokens: int) -> None:
        self._now_s = now_s
        self._demand.arrive(now_s, uncached_tokens)

    def note_answer(self, output_tokens: int) -> None:
        self._demand.answer(self._now_s, output_tokens)
        self._pace.answer(self._now_s, max(output_tokens, 1))

    def step(self, now_s: float, fleet: FleetSnapshot) -> Advice:
        self._now_s = now_s
        self._demand.begin(now_s)
        self._stock = stock_of(fleet, self._capacities(now_s, fleet), self._convertible)
        told = [*self._conversions.watch(now_s, fleet)]
        estimates = self._demand.estimates(now_s)
        if self._local and self._local.decode:
            self._pace.step(now_s, fleet, self._local.decode.batch[-1])
        planned = self._replan(now_s, fleet, estimates)
        threshold, why, is_brief = self._threshold_now(now_s)
        moved = []
        if threshold != self._threshold:
            because = "; ".join(each for each in (planned, why) if each) or "as planned again"
            moved = [f"t {said(self._threshold)} -> {said(threshold)}: {because}"]
            self._threshold = threshold
        # Nothing begins by a plan for other engines: one that has just been converted would be wanted once more.
        is_for_these = self._plan is None or not self._is_for_others(self._plan)
        conversions = self._conversions.next(now_s, self._wish(estimates)) if is_for_these else ()
        if conversions and self._plan is not None:
            self._advised += len(conversions)
            names = ", ".join(each.engine for each in conversions)
            told.append(f"convert {names} to {conversions[0].role}: {self._plan.outlook.reason}")
        reasons = (*told, *moved)
        is_brief = is_brief and bool(moved) and not told and not planned
        if not is_brief:
            self._changes.extend(Change(now_s, each) for each in reasons)
        return Advice(self._threshold, conversions, reasons, is_brief)

    def state(self) -> ControllerState:
        """As of the last step."""
        estimates, plan = self._demand.estimates(self._now_s), self._plan
        outlook = plan.outlook if plan else None
        return ControllerState(
            self._threshold,
            self._planned,
            self._steps,
            estimates,
            self._pressure,
            division_view(outlook.now, estimates.requests_s) if outlook else None,
            division_view(outlook.wanted, estimates.requests_s) if outlook else None,
            outlook.reason if outlook else "",
            plan.factors if plan else (1.0, 1.0, 1.0),
            len(self._stock.remote),
            self._stock.capacity_bytes_s,
            tuple(each.conversion for each in self._conversions.pending),
            self._advised,
            self._waits_for or self._conversions.waits_for,
            tuple(self._changes),
        )

    def _capacities(self, now_s: float, fleet: FleetSnapshot) -> dict[str, float]:
        leading = [link for link in fleet.links if link.target == fleet.site != link.source]
        self._links = {link.source: self._links.get(link.source) or LinkCapacity() for link in leading}
        return {link.source: self._links[link.source].step(now_s, link) for link in leading}

    def _replan(self, now_s: float, fleet: FleetSnapshot, estimates: Estimates) -> str:
        """Plan when it is time to, or at once when there is less or more to plan with; returns why the planned t
        changed, empty when it did not."""
        if self._plan and not self._is_outdated(self._plan, now_s):
            return ""
        made = self._plan_of(now_s, fleet, estimates)
        if made is None:
            return ""
        self._plan = made
        before, self._planned = self._planned, made.outlook.now.threshold_tokens
        if before is not None and self._planned is not None:
            self._short.follow(before, self._planned)
        return made.outlook.threshold_reason

    def _is_outdated(self, plan: _Plan, now_s: float) -> bool:
        if now_s - plan.at_s >= self._settings.plan_interval_s:
            return True
        change = abs(self._stock.capacity_bytes_s - plan.capacity_bytes_s)
        has_changed = self._is_for_others(plan) or change > CAPACITY_CHANGE * plan.capacity_bytes_s
        if not has_changed or now_s - self._early_s < MIN_EARLY_S:
            return False
        self._early_s = now_s
        return True

    def _is_for_others(self, plan: _Plan) -> bool:
        """Engines have come, gone or changed their role since."""
        return plan.counts != self._stock.counts

    def _plan_of(self, now_s: float, fleet: FleetSnapshot, estimates: Estimates) -> _Plan | None:
        """None while too little is known; ``_waits_for`` then says what of."""
        stock, settings = self._stock, self._settings
        if estimates.requests < settings.min_requests:
            self._waits_for = f"{settings.min_requests - estimates.requests} more requests, to know their lengths"
            return None
        here, mean_tokens = stock.prefillers or stock.decode, estimates.uncached_tokens or 1.0
        kinds = kinds_of(self._local, self._remote, here, stock.remote, fleet.cache, mean_tokens)
        lengths = self._demand.lengths(kinds.longest_tokens) if kinds else None
        if kinds is None or lengths is None or not stock.local_engines:
            self._waits_for = "a local engine whose speed is known"
            return None
        self._waits_for = self._wait_for_decode(now_s, estimates) if kinds.knows_decode else ""
        is_divided = kinds.knows_decode and not self._waits_for
        workload = Workload(lengths, estimates.output_tokens or 1.0)
        decode_factor = self._pace.factor(now_s, self._local.decode) if self._local and self._local.decode else 1.0
        model = FleetModel(kinds.local, kinds.remote, workload, self._slo, self._sites, decode_factor)
        outlook = look(model, self._counts, self._planned, estimates.requests_s, settings, is_divided=is_divided)
        return _Plan(
            outlook,
            lengths,
            model.seconds_per_token(),
            (*kinds.factors, decode_factor),
            now_s,
            stock.counts,
            stock.capacity_bytes_s,
        )

    def _wait_for_decode(self, now_s: float, estimates: Estimates) -> str:
        """What is missing before a division can be judged."""
        if (missing := self._settings.min_answers - estimates.answers) > 0:
            return f"{missing} more answers, to know how much is decoded"
        wait_s = self._pace.wait_s(now_s)
        return f"{wait_s:.0f} s more, to know how fast" if wait_s else ""

    @property
    def _counts(self) -> Counts:
        """With engines in conversion where they are going."""
        stock, pending = self._stock, self._conversions.pending
        going: list[Role] = [each.conversion.role for each in pending if each.has_begun]
        return Counts(
            len(stock.prefill) + going.count("prefill"),
            len(stock.decode) + going.count("decode"),
            len(stock.shared),
            fixed_prefill=len(stock.prefill) - len(stock.convertible("prefill")),
            fixed_decode=len(stock.decode) - len(stock.convertible("decode")),
        )

    @property
    def _sites(self) -> tuple[tuple[int, float], ...]:
        """Engines and links that a plan may count on."""
        share = self._settings.link_share
        return tuple((len(each.engines), each.capacity_bytes_s * share) for each in self._stock.sources)

    def _threshold_now(self, now_s: float) -> tuple[int | None, str, bool]:
        """t by both time scales, why it differs from what it was if not for a plan, and whether only for queues."""
        if not self._stock.sources:
            self._is_lost, self._back_since_s = True, None
            self._short.reset()
            self._pressure, self._steps = None, 0
            return None, "no remote site can be reached", False
        if self._is_lost:
            self._back_since_s = now_s if self._back_since_s is None else self._back_since_s
            if now_s - self._back_since_s < self._settings.return_s:
                return None, "", False
            self._is_lost = False
        shift = self._short.step(now_s, *self._press())
        if self._planned is None:
            return None, "", False
        # Without a local prefill engine the decode engines would do what a higher t keeps here, beside their answers.
        steps = self._steps = shift.steps if self._stock.prefillers else min(shift.steps, 0)
        why = "; ".join(shift.reasons) or (
            f"{steps:+d} steps from {self._planned:,}, which is planned" if steps else ""
        )
        return self._moved(self._planned, steps), why, self._threshold is not None

    def _press(self) -> tuple[Pressure, float]:
        """What presses on both sides, and a local prefill's mean seconds. While no speed is known only links count."""
        per_token_s = self._plan.per_token_s if self._plan else (0.0, 0.0)
        self._pressure = pressure_of(self._stock, *per_token_s)
        return self._pressure, per_token_s[0] * (self._plan.lengths.mean_tokens if self._plan else 0.0)

    def _moved(self, planned_tokens: int, steps: int) -> int:
        """The planned t, so many steps away; it keeps to the settings' bounds."""
        settings, tokens = self._settings, planned_tokens
        if steps > 0 and self._plan is not None:
            tokens = max(tokens, int(self._plan.lengths.quantiles(np.array([FEW_SHARE]))[0]))
        moved = round(tokens * settings.step**steps) if steps else tokens
        high = settings.max_threshold_tokens
        return max(settings.min_threshold_tokens, moved if high is None else min(moved, high))

    def _wish(self, estimates: Estimates) -> Wish | None:
        """What the plan would have converted."""
        if self._plan is None or not self._plan.outlook.reason:
            return None
        outlook = self._plan.outlook
        more = outlook.wanted.prefill_engines - outlook.now.prefill_engines
        needed = estimates.requests_s / self._settings.target_utilisation
        served = min(outlook.now.requests_s, needed)
        return Wish(
            "prefill" if more > 0 else "decode",
            self._stock.convertible("decode" if more > 0 else "prefill"),
            outlook.at_once,
            served - min(outlook.draining.requests_s, served),
            min(outlook.wanted.requests_s, needed) - served,
            -(-abs(more) // outlook.at_once),
            is_rescue=outlook.now.requests_s <= 0,
        )
