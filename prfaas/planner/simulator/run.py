"""One scenario under one setting, from the first arrival to the last answer.

An arrival is placed by the router's own ``place`` on a snapshot made as the gateway makes it. Then its prefill queues,
its cache crosses the link while it is made, and its decode engine answers. A try that fails goes on with the
placement's alternatives as in the gateway.
"""

import dataclasses
from collections import deque
from collections.abc import Callable, Iterator

from prfaas.planner.simulator.cache import PrefixCaches
from prfaas.planner.simulator.engine import Engine
from prfaas.planner.simulator.events import Events
from prfaas.planner.simulator.failures import Failures
from prfaas.planner.simulator.fleet import FleetView
from prfaas.planner.simulator.link import Link, Transfer
from prfaas.planner.simulator.outcome import Outcome, Tally, Use, outcome_of
from prfaas.planner.simulator.policies import Setting, threshold_of
from prfaas.planner.simulator.request import Arrival, Request
from prfaas.planner.simulator.roles import Roles
from prfaas.planner.simulator.spec import Scenario
from prfaas.routing.place import place
from prfaas.routing.placement import Refusal
from prfaas.routing.scarcity import Scarcity
from prfaas.routing.snapshot import RequestFeatures

MAX_TRIES, MAX_REMOTE_TRIES = 4, 2
"""Those of the gateway (``gateway/ways.py``)."""
MAX_REASONS = 500
PROGRESS_REQUESTS = 2_000
_NO_HITS: dict[str, int] = {}

Progress = Callable[[int], None]
"""Told how many requests have arrived since the last time."""


class Simulation:
    """One run; make it and call ``run`` once. It is the ``Hooks`` of its engines."""

    def __init__(self, scenario: Scenario, setting: Setting, progress: Progress | None = None) -> None:
        self.scenario, self.setting = scenario, setting
        self.events, self.tally = Events(), Tally(scenario.promise)
        fleet = scenario.fleet
        local = next(each.profile for each in fleet.engines if each.site == fleet.site and each.role != "prefill")
        self.cache_size = local.cache_size()
        self.view = FleetView(fleet.site, self.cache_size, Scarcity())
        touch = self.view.changed.add
        self.engines = [Engine(spec, at, self.events, self, touch) for at, spec in enumerate(fleet.engines)]
        self.links = {spec.source: Link(spec, self.events, self._arrived) for spec in fleet.links}
        self.policy = setting.policy()
        self.roles = Roles(self)
        self.failures = Failures(self)
        self.controller = setting.controller() if setting.controller else None
        self._by_name = {engine.name: engine for engine in self.engines}
        self._caches = PrefixCaches([engine.spec.cache_tokens for engine in self.engines])
        self._has_caches = any(engine.spec.cache_tokens for engine in self.engines)
        self._deadlines: deque[tuple[float, Request, int]] = deque()
        self._arrivals: Iterator[Arrival] = iter(scenario.arrivals())
        self._live: dict[Request, None] = {}
        self._is_over = False
        self._ended_s = 0.0
        self._progress = progress

    def run(self) -> Outcome:
        """Everything, in the order of the virtual clock."""
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

    @property
    def live(self) -> list[Request]:
        """The requests that are in the fleet, in the order in which they came."""
        return list(self._live)

    # Requests

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
        hits = self._hits(arrival) if self._has_caches else _NO_HITS
        decision = place(RequestFeatures(arrival.prompt_tokens, (), hits), self.view.snapshot(), self.policy)
        if isinstance(decision, Refusal) or len(self._live) >= self.scenario.max_waiting:
            tally.refused += 1
            if self.controller:
                self.controller.note_arrival(self.events.now_s, arrival.prompt_tokens - max(hits.values(), default=0))
        else:
            request = Request(arrival, decision)
            self._live[request] = None
            tally.remote += decision.is_remote
            self._start(request, decision.decode, decision.prefill, hits)
            tally.prompt_tokens += arrival.prompt_tokens
            tally.cached_tokens += arrival.prompt_tokens - request.uncached_tokens
            if self.controller:
                self.controller.note_arrival(self.events.now_s, arrival.prompt_tokens - request.held_tokens)
        self._next_arrival()

    def _hits(self, arrival: Arrival) -> dict[str, int]:
        if not self._has_caches or not arrival.block_ids:
            return {}
        engines = self.engines
        return {engines[at].name: tokens for at, tokens in self._caches.hits(arrival.block_ids).items()}

    def _start(self, request: Request, decode: str, prefill: str | None, hits: dict[str, int]) -> None:
        """Begin a try on these engines."""
        tokens = request.arrival.prompt_tokens
        decoder = request.decode = self._by_name[decode]
        prefiller = request.prefill = self._by_name[prefill] if prefill else decoder
        hit = min(hits.get(prefiller.name, 0), tokens - 1) if hits else 0
        request.held_tokens = hit if prefiller is decoder else min(hits.get(decode, 0), tokens - 1)
        request.uncached_tokens = tokens - hit
        request.work_s = prefiller.seconds(tokens - hit, hit)
        request.tries += 1
        decoder.inflight += 1
        decoder.touch()
        if prefiller is not decoder:
            prefiller.inflight += 1
            prefiller.touch()
            if prefiller.site != decoder.site:
                self._open(request, hit)
        prefiller.waiting_tokens += request.uncached_tokens
        prefiller.submit(request)
        if not (self.failures.is_well(prefiller) and self.failures.is_well(decoder)):
            after_s = self.events.now_s + self.scenario.detection_s
            self.events.at(after_s, self.failures.notice_try, (request, request.tries))

    def _open(self, request: Request, hit: int) -> None:
        """A transfer of what the decode engine lacks; of that, what the other has cached is there from the start."""
        size, tokens = self.cache_size, request.arrival.prompt_tokens
        missing = tokens - request.held_tokens
        made = min(missing, request.uncached_tokens)
        request.transfer = Transfer(request, size.row_bytes(missing - made), size.row_bytes(made), size.state_bytes)
        deadline_s = self.events.now_s + self.scenario.remote_timeout_s
        self._deadlines.append((deadline_s, request, request.tries))

    def prefill_began(self, request: Request) -> None:
        if request.transfer is not None:
            self.links[request.prefill.site].begin(request.transfer)

    def prefilled(self, request: Request) -> None:
        """Its cache is in the prefill engine, which is done with it."""
        prefiller = request.prefill
        if self._has_caches and request.arrival.block_ids:
            self._caches.admit(prefiller.at, request.arrival.block_ids)
        if prefiller is request.decode:
            return
        prefiller.inflight -= 1
        prefiller.touch()
        if request.transfer is not None:
            self.links[prefiller.site].prefilled(request.transfer)
        else:
            self.events.at(self.events.now_s + self.policy.hand_over_s, self._handed_over, (request, request.tries))

    def _arrived(self, request: Request) -> None:
        """The last byte has crossed the link."""
        after_s = self.links[request.prefill.site].spec.rtt_s + self.policy.hand_over_s
        self.events.at(self.events.now_s + after_s, self._handed_over, (request, request.tries))

    def _handed_over(self, handed_over: tuple[Request, int]) -> None:
        request, tries = handed_over
        if tries != request.tries:
            return
        request.transfer = None
        if self._has_caches and request.arrival.block_ids:
            self._caches.admit(request.decode.at, request.arrival.block_ids)
        request.decode.join(request)

    def answering(self, request: Request) -> None:
        request.prefill.waiting_tokens -= request.uncached_tokens
        request.prefill.touch()

    def answered(self, request: Request) -> None:
        request.decode.inflight -= 1
        request.decode.touch()
        arrival = request.arrival
        self.tally.answer(arrival.at_s, request.first_token_s, self.events.now_s, arrival.output_tokens)
        if self.controller:
            self.controller.note_answer(arrival.output_tokens)
        self._leave(request)

    # When a try fails

    def fail(self, request: Request, *, is_decode_lost: bool = False) -> None:
        """The present try is over; go on with the next way, if there is one and no token has been given."""
        self._undo(request)
        if request.first_token_s >= 0:
            self._give_up(request)
            return
        lost = {request.decode.name} if is_decode_lost else {request.prefill.name} - {request.decode.name}
        arrival = request.arrival
        for way in request.placement.alternatives if request.tries < MAX_TRIES else ():
            engines = [self._by_name[name] for name in (way.decode, way.prefill) if name]
            is_remote = len(engines) > 1 and engines[1].site != engines[0].site
            if way.decode in lost or way.prefill in lost or not all(self.failures.is_well(each) for each in engines):
                continue
            if not is_remote or request.tries < MAX_REMOTE_TRIES:
                self.tally.retried += 1
                self._start(request, way.decode, way.prefill, self._hits(arrival))
                return
        self._give_up(request)

    def _undo(self, request: Request) -> None:
        prefiller, decoder = request.prefill, request.decode
        if request.first_token_s < 0:
            prefiller.waiting_tokens -= request.uncached_tokens
        decoder.inflight -= 1
        if prefiller is not decoder and prefiller.holds(request):
            prefiller.inflight -= 1
            prefiller.remove(request)
        elif decoder.holds(request):
            decoder.remove(request)
        if request.transfer is not None:
            self.links[prefiller.site].remove(request.transfer)
            request.transfer = None
        prefiller.touch()
        decoder.touch()

    def _give_up(self, request: Request) -> None:
        self.tally.failed += 1
        self._leave(request)

    def _leave(self, request: Request) -> None:
        del self._live[request]
        self._ended_s = self.events.now_s

    # Time

    def _tick(self, _: None) -> None:
        """Look at the links, give up caches that are late, ask the controller."""
        now_s, interval_s = self.events.now_s, self.scenario.interval_s
        if self.view.link_states:
            self.view.look_at_links(interval_s)
        deadlines = self._deadlines
        while deadlines and deadlines[0][0] <= now_s:
            _, request, tries = deadlines.popleft()
            if request.transfer is not None and request.tries == tries:
                self.fail(request)
        self.roles.step()
        if self.controller and not self._is_over:
            advice = self.controller.step(now_s, self.view.snapshot())
            self.set_threshold(threshold_of(advice.threshold_tokens))
            self.roles.convert(advice.conversions)
            if len(self.tally.reasons) < MAX_REASONS:
                self.tally.reasons.extend((now_s, reason) for reason in advice.reasons)
        if not self._is_over or self._live:
            self.events.at(now_s + interval_s, self._tick)

    def _outcome(self) -> Outcome:
        ended_s = self._ended_s
        for engine in self.engines:
            engine.finish()
        span_s = max(ended_s, 1e-9)
        uses = [Use(each.name, each.prefill_busy_s / span_s, each.batch_s / span_s) for each in self.engines]
        uses += [
            Use(f"link from {name}", each.active_s / span_s, each.delivered_bytes * 8e-9 / span_s)
            for name, each in self.links.items()
        ]
        return outcome_of(self.setting.name, self.tally, tuple(uses), ended_s)


def simulate(scenario: Scenario, setting: Setting, progress: Progress | None = None) -> Outcome:
    """Run a scenario under a setting: the same ones give the same outcome, bit for bit."""
    return Simulation(scenario, setting, progress).run()
