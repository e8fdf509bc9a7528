"""One scenario under one setting, from the first arrival to the last answer.

An arrival is placed by the router's own ``place`` on a snapshot made as the gateway makes it. Then its prefill queues,
its cache crosses the link while it is made, and its decode engine answers. A try that fails goes on with the
placement's alternatives as in the gateway.
"""

import dataclasses
from collections.abc import Callable, Iterator

from prfaas.planner.simulator.engine import Engine
from prfaas.planner.simulator.events import Events
from prfaas.planner.simulator.failures import Failures
from prfaas.planner.simulator.fleet import FleetView
from prfaas.planner.simulator.link import Link
from prfaas.planner.simulator.outcome import Outcome, Tally, Use, outcome_of
from prfaas.planner.simulator.policies import Setting, threshold_of
from prfaas.planner.simulator.request import Arrival
from prfaas.planner.simulator.roles import Roles
from prfaas.planner.simulator.spec import Scenario
from prfaas.planner.simulator.tries import Tries
from prfaas.routing.place import place
from prfaas.routing.placement import Placement, Refusal
from prfaas.routing.scarcity import Scarcity
from prfaas.routing.snapshot import RequestFeatures

MAX_REASONS = 500
PROGRESS_REQUESTS = 2_000

Progress = Callable[[int], None]
"""Told how many requests have arrived since the last time."""


class Simulation:
    """One run; make it and call ``run`` once."""

    def __init__(self, scenario: Scenario, setting: Setting, progress: Progress | None = None) -> None:
        self.scenario, self.setting = scenario, setting
        self.events, self.tally = Events(), Tally(scenario.promise)
        fleet = scenario.fleet
        # As the planner does: the cache is what the remote engines' profile says of it, where there are any.
        profiles = {each.site == fleet.site: each.profile for each in fleet.engines}
        self.cache_size = (profiles.get(False) or profiles[True]).cache_size()
        self.view = FleetView(fleet.site, self.cache_size, Scarcity())
        touch = self.view.changed.add
        self.engines = [Engine(spec, at, self.events, touch) for at, spec in enumerate(fleet.engines)]
        self.links = {spec.source: Link(spec, self.events) for spec in fleet.links}
        self.policy = setting.policy()
        self.roles, self.failures, self.tries = Roles(self), Failures(self), Tries(self)
        self.controller = setting.controller() if setting.controller else None
        self._arrivals: Iterator[Arrival] = iter(scenario.arrivals())
        self._is_over = False
        self._progress = progress

    def run(self) -> Outcome:
        """Everything, in the order of the virtual clock."""
        for engine in self.engines:
            engine.hooks = self.tries
        for link in self.links.values():
            link.arrived = self.tries.arrived
        self.roles.divide(self.setting.prefill_engines)
        self.view.show(self.engines, list(self.links.values()))
        self.roles.schedule(self.setting.phases)
        self.failures.schedule(self.scenario.changes)
        self._next_arrival()
        self.events.at(self.scenario.interval_s, self._tick)
        self.events.run()
        return self._outcome()

    def set_threshold(self, tokens: int) -> None:
        """From now on."""
        if tokens != self.policy.threshold_tokens:
            self.policy = dataclasses.replace(self.policy, threshold_tokens=tokens)

    def _next_arrival(self) -> None:
        arrival = next(self._arrivals, None)
        if arrival is not None:
            self.events.at(arrival.at_s, self._arrive, arrival)
        self._is_over = arrival is None

    def _arrive(self, arrival: Arrival) -> None:
        tally = self.tally
        tally.arrive(self.events.now_s)
        if self._progress and not tally.arrived % PROGRESS_REQUESTS:
            self._progress(PROGRESS_REQUESTS)
        hits = self.tries.hits(arrival)
        decision = place(RequestFeatures(arrival.prompt_tokens, (), hits), self.view.snapshot(), self.policy)
        if self.controller:
            self.controller.note_arrival(self.events.now_s, _uncached_here(decision, arrival))
        if isinstance(decision, Refusal) or len(self.tries) >= self.scenario.max_waiting:
            tally.refused += 1
        else:
            self.tries.begin(arrival, decision, hits)
        self._next_arrival()

    def _tick(self, _: None) -> None:
        """Look at the links, give up caches that are late, ask the controller."""
        now_s, interval_s = self.events.now_s, self.scenario.interval_s
        if self.view.link_states:
            self.view.look_at_links(interval_s)
        self.tries.give_up_late()
        self.roles.step()
        if self.controller and not self._is_over:
            advice = self.controller.step(now_s, self.view.look())
            self.set_threshold(threshold_of(advice.threshold_tokens))
            self.roles.convert(advice.conversions)
            if len(self.tally.reasons) < MAX_REASONS:
                self.tally.reasons.extend((now_s, reason) for reason in advice.reasons)
        if not self._is_over or len(self.tries):
            self.events.at(now_s + interval_s, self._tick)

    def _outcome(self) -> Outcome:
        ended_s = self.tries.ended_s
        for engine in self.engines:
            engine.finish()
        span_s = max(ended_s, 1e-9)
        uses = [Use(each.name, each.prefill_busy_s / span_s, each.batch_s / span_s) for each in self.engines]
        uses += [
            Use(f"link from {name}", each.active_s / span_s, each.delivered_bytes * 8e-9 / span_s)
            for name, each in self.links.items()
        ]
        return outcome_of(self.setting.name, self.tally, tuple(uses), ended_s)


def _uncached_here(decision: Placement | Refusal, arrival: Arrival) -> int:
    """What the site would have to prefill itself, wherever the request was placed; the gateway counts the same."""
    if isinstance(decision, Refusal):
        return arrival.prompt_tokens
    tokens = next((each.uncached_tokens for each in decision.candidates if not each.is_remote), None)
    return arrival.prompt_tokens if tokens is None else tokens


def simulate(scenario: Scenario, setting: Setting, progress: Progress | None = None) -> Outcome:
    """Run a scenario under a setting: the same ones give the same outcome, bit for bit."""
    return Simulation(scenario, setting, progress).run()
