"""Requests on their way: each try from its prefill to its answer, and the next one when it fails."""

from collections import deque
from typing import TYPE_CHECKING

from prfaas.planner.simulator.cache import PrefixCaches
from prfaas.planner.simulator.link import Transfer
from prfaas.planner.simulator.request import Arrival, Request
from prfaas.routing.placement import Placement

if TYPE_CHECKING:
    from prfaas.planner.simulator.run import Simulation

MAX_TRIES, MAX_REMOTE_TRIES = 4, 2
"""Those of the gateway (``gateway/ways.py``)."""
NO_HITS: dict[str, int] = {}


class Tries:
    """The ``Hooks`` of a simulation's engines. Everything that is placed begins and ends here, once."""

    def __init__(self, simulation: "Simulation") -> None:
        self._simulation = simulation
        self._events, self._tally = simulation.events, simulation.tally
        self._by_name = {engine.name: engine for engine in simulation.engines}
        self._links = simulation.links
        specs = simulation.scenario.fleet.engines
        self._caches = PrefixCaches([spec.cache_tokens for spec in specs])
        self._has_caches = any(spec.cache_tokens for spec in specs)
        self._deadlines: deque[tuple[float, Request, int]] = deque()
        self._live: dict[Request, None] = {}
        self.ended_s = 0.0

    def __len__(self) -> int:
        """Requests in the fleet."""
        return len(self._live)

    @property
    def live(self) -> list[Request]:
        """The requests that are in the fleet, in the order in which they came."""
        return list(self._live)

    def hits(self, arrival: Arrival) -> dict[str, int]:
        """Engine -> prompt tokens that it would reuse now."""
        if not self._has_caches or not arrival.block_ids:
            return NO_HITS
        engines = self._simulation.engines
        return {engines[at].name: tokens for at, tokens in self._caches.hits(arrival.block_ids).items()}

    def begin(self, arrival: Arrival, placement: Placement, hits: dict[str, int]) -> Request:
        """The first try, as it was placed."""
        request = Request(arrival, placement)
        self._live[request] = None
        self._start(request, placement.decode, placement.prefill, hits)
        tally = self._tally
        tally.remote += placement.is_remote
        tally.prompt_tokens += arrival.prompt_tokens
        tally.cached_tokens += arrival.prompt_tokens - request.uncached_tokens
        return request

    def _start(self, request: Request, decode: str, prefill: str | None, hits: dict[str, int]) -> None:
        """Begin a try on these engines."""
        tokens = request.arrival.prompt_tokens
        decoder = request.decode = self._by_name[decode]
        prefiller = request.prefill = self._by_name[prefill] if prefill else decoder
        request.is_handed_over = prefiller is not decoder
        hit = min(hits.get(prefiller.name, 0), tokens - 1) if hits else 0
        request.held_tokens = hit if prefiller is decoder else min(hits.get(decode, 0), tokens - 1)
        request.uncached_tokens = tokens - hit
        request.work_s = prefiller.seconds(tokens - hit, hit)
        request.tries += 1
        decoder.inflight += 1
        decoder.awaiting += 1
        request.awaiting = 1
        decoder.touch()
        if request.is_handed_over:
            prefiller.inflight += 1
            prefiller.touch()
            if prefiller.site != decoder.site:
                self._open(request, hit)
        request.waiting_tokens = request.uncached_tokens
        prefiller.waiting_tokens += request.waiting_tokens
        prefiller.submit(request)
        failures = self._simulation.failures
        if failures.is_any_known and not (failures.is_well(prefiller) and failures.is_well(decoder)):
            after_s = self._events.now_s + self._simulation.scenario.detection_s
            self._events.at(after_s, failures.notice_try, (request, request.tries))

    def _open(self, request: Request, hit: int) -> None:
        """A transfer of what the decode engine lacks; of that, what the other has cached is there from the start."""
        size, tokens = self._simulation.cache_size, request.arrival.prompt_tokens
        missing = tokens - request.held_tokens
        made = min(missing, request.uncached_tokens)
        request.transfer = Transfer(request, size.row_bytes(missing - made), size.row_bytes(made), size.state_bytes)
        deadline_s = self._events.now_s + self._simulation.scenario.remote_timeout_s
        self._deadlines.append((deadline_s, request, request.tries))

    def prefill_began(self, request: Request) -> None:
        if request.transfer is not None:
            self._links[request.prefill.site].begin(request.transfer)

    def prefilled(self, request: Request) -> None:
        """Its cache is in the prefill engine, which is done with it."""
        prefiller = request.prefill
        if self._has_caches and request.arrival.block_ids:
            self._caches.admit(prefiller.at, request.arrival.block_ids)
        if prefiller is request.decode:
            self._has_cache(request)
            return
        prefiller.inflight -= 1
        self._is_prefilled(request)
        if request.transfer is not None:
            self._links[prefiller.site].prefilled(request.transfer)
        else:
            self._events.at(
                self._events.now_s + self._simulation.policy.hand_over_s, self._handed_over, (request, request.tries)
            )

    def arrived(self, request: Request) -> None:
        """The last byte has crossed the link."""
        after_s = self._links[request.prefill.site].spec.rtt_s + self._simulation.policy.hand_over_s
        self._events.at(self._events.now_s + after_s, self._handed_over, (request, request.tries))

    def _handed_over(self, handed_over: tuple[Request, int]) -> None:
        request, tries = handed_over
        if tries != request.tries:
            return
        request.transfer = None
        if self._has_caches and request.arrival.block_ids:
            self._caches.admit(request.decode.at, request.arrival.block_ids)
        self._has_cache(request)
        request.decode.join(request)

    def _is_prefilled(self, request: Request) -> None:
        if request.waiting_tokens:
            request.prefill.waiting_tokens -= request.waiting_tokens
            request.waiting_tokens = 0
            request.prefill.touch()

    def _has_cache(self, request: Request) -> None:
        request.decode.awaiting -= request.awaiting
        request.awaiting = 0
        request.decode.touch()

    def answering(self, request: Request) -> None:
        self._is_prefilled(request)

    def answered(self, request: Request) -> None:
        request.decode.inflight -= 1
        request.decode.touch()
        arrival = request.arrival
        self._tally.answer(arrival.at_s, request.first_token_s, self._events.now_s, arrival.output_tokens)
        if self._simulation.controller:
            self._simulation.controller.note_answer(arrival.output_tokens)
        self._leave(request)

    def fail(self, request: Request, *, is_decode_lost: bool = False) -> None:
        """The present try is over; go on with the next way, if there is one and no token has been given."""
        self._undo(request)
        if request.first_token_s >= 0:
            self._give_up(request)
            return
        lost = {request.decode.name} if is_decode_lost else {request.prefill.name} - {request.decode.name}
        for way in request.placement.alternatives if request.tries < MAX_TRIES else ():
            engines = [self._by_name[name] for name in (way.decode, way.prefill) if name]
            is_remote = len(engines) > 1 and engines[1].site != engines[0].site
            if (
                way.decode in lost
                or way.prefill in lost
                or not all(self._simulation.failures.is_well(each) for each in engines)
            ):
                continue
            if not is_remote or request.tries < MAX_REMOTE_TRIES:
                self._tally.retried += 1
                self._start(request, way.decode, way.prefill, self.hits(request.arrival))
                return
        self._give_up(request)

    def give_up_late(self) -> None:
        """Caches that took too long are computed here."""
        deadlines = self._deadlines
        while deadlines and deadlines[0][0] <= self._events.now_s:
            request, tries = deadlines.popleft()[1:]
            if request.transfer is not None and request.tries == tries:
                self.fail(request)

    def _undo(self, request: Request) -> None:
        prefiller, decoder = request.prefill, request.decode
        self._is_prefilled(request)
        decoder.inflight -= 1
        self._has_cache(request)
        if prefiller is not decoder and prefiller.holds(request):
            prefiller.inflight -= 1
            prefiller.remove(request)
        elif decoder.holds(request):
            decoder.remove(request)
        if request.transfer is not None:
            self._links[prefiller.site].remove(request.transfer)
            request.transfer = None
        prefiller.touch()
        decoder.touch()

    def _give_up(self, request: Request) -> None:
        self._tally.failed += 1
        self._leave(request)

    def _leave(self, request: Request) -> None:
        del self._live[request]
        self.ended_s = self._events.now_s
