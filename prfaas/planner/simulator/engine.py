"""An engine as a fluid: a queue of prefills, a batch of answers, and what they do to each other.

- Alone, a prefill takes its profile's seconds; first come, first served.
- A batch of n answers gets a token each every step(n) seconds.
- Together, each step has a chunk of the prefill in it and takes chunk + step(n) seconds, less what ``overlap`` saves.

Rates are constant between events, so nothing happens at single steps: a token clock tells how many tokens each answer
of the batch has got since the engine began, and an answer ends when the clock has reached its target.
"""

import functools
import math
from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Protocol

from prfaas.planner.simulator.events import Events
from prfaas.planner.simulator.request import Request
from prfaas.planner.simulator.spec import EngineSpec
from prfaas.planner.simulator.speeds import prefill_seconds, step_table

TOKEN_EPSILON, WORK_EPSILON_S = 1e-6, 1e-9
"""Rounding of sums of a million times; far below a token and a step."""


class Hooks(Protocol):
    """Whom an engine tells."""

    def prefill_began(self, request: Request) -> None: ...

    def prefilled(self, request: Request) -> None: ...

    def answering(self, request: Request) -> None:
        """Its first token is certain: ``request.first_token_s`` says when it comes."""

    def answered(self, request: Request) -> None: ...


class Engine:
    """One engine. Its owner changes what the router sees, ``inflight``, ``waiting_tokens``, ``awaiting``,
    ``is_healthy``, ``is_draining`` and the roles, and calls ``touch`` then.

    Attributes:
        touch: to be called when something that the router sees has changed.
        hooks: whom it tells; set before the first request.
        prefill_busy_s: time with a prefill at work.
        batch_s: answers x time, the integral of the batch.
    """

    def __init__(self, spec: EngineSpec, at: int, events: Events, touch: Callable[[int], None]) -> None:
        self.spec, self.name, self.site, self.at = spec, spec.name, spec.site, at
        self.seconds = prefill_seconds(spec.profile.prefill)
        self.can_prefill, self.can_decode = spec.role != "decode", spec.role != "prefill"
        self.is_healthy, self.is_draining = True, False
        self.inflight = self.waiting_tokens = self.awaiting = 0
        self.prefill_busy_s = self.batch_s = 0.0
        self._events, self.touch = events, functools.partial(touch, at)
        self.hooks: Hooks
        self._steps = step_table(spec.profile.decode, spec.batch)
        self._limit = len(self._steps) - 1
        self._queue: deque[Request] = deque()
        self._left_s = 0.0
        self._batch: list[tuple[float, int, Request]] = []
        self._ready: deque[Request] = deque()
        self._joined = 0
        self._tokens = self._token_rate = self._prefill_rate = 0.0
        self._at_s, self._due_s = 0.0, math.inf
        self._is_down = False

    @property
    def is_idle(self) -> bool:
        return not (self._queue or self._batch or self._ready)

    def submit(self, request: Request) -> None:
        """Prefill it; ``work_s`` and ``uncached_tokens`` are set. It comes last."""
        self._advance()
        self._queue.append(request)
        if len(self._queue) == 1:
            self._begin()
        self._settle()

    def join(self, request: Request) -> None:
        """Decode it: its cache is here, but for the last token."""
        self._advance()
        self._ready.append(request)
        self._admit()
        self._settle()

    def remove(self, request: Request) -> None:
        """Forget a request that is here, whatever it does."""
        self._advance()
        if request in self._queue:
            is_head = self._queue[0] is request
            self._queue.remove(request)
            if is_head and self._queue:
                self._begin()
        elif request in self._ready:
            self._ready.remove(request)
        else:
            self._batch = [each for each in self._batch if each[2] is not request]
            heapify(self._batch)
            self._admit()
        self._settle()

    def holds(self, request: Request) -> bool:
        """Whether it is here, whatever it does."""
        return request in self._queue or request in self._ready or any(each[2] is request for each in self._batch)

    def set_down(self, is_down: bool) -> None:
        """Nothing moves while it is down."""
        self._advance()
        self._is_down = is_down
        self._admit()
        self._settle()

    def finish(self) -> None:
        """Bring the integrals up to now."""
        self._advance()

    def _begin(self) -> None:
        """The head of the queue gets its turn."""
        request = self._queue[0]
        self._left_s = request.work_s
        if request.transfer is not None:
            self.hooks.prefill_began(request)

    def _admit(self) -> None:
        while self._ready and len(self._batch) < self._limit and not self._is_down:
            self._decode(self._ready.popleft(), self._events.now_s)

    def _decode(self, request: Request, now_s: float) -> None:
        """Into the batch. Where the prefill was here its last chunk has made the first token; else a step makes it,
        which begins when the running one, half over on average, has ended."""
        batch = self._batch
        if request.is_handed_over:
            before, after = self._steps[len(batch)], self._steps[len(batch) + 1]
            request.first_token_s = now_s + before / 2 + after
            tokens = request.arrival.output_tokens + (0.5 if batch else 0.0)
        else:
            request.first_token_s = now_s
            tokens = request.arrival.output_tokens - 1.0
        self._joined += 1
        heappush(batch, (self._tokens + tokens, self._joined, request))
        self.hooks.answering(request)

    def _advance(self) -> None:
        now_s = self._events.now_s
        passed_s = now_s - self._at_s
        if passed_s > 0.0:
            self._at_s = now_s
            if self._batch:
                self._tokens += passed_s * self._token_rate
                self.batch_s += passed_s * len(self._batch)
            if self._prefill_rate > 0.0:
                self._left_s -= passed_s * self._prefill_rate
                self.prefill_busy_s += passed_s

    def _settle(self) -> None:
        """Rates from now on, and the next event at them. One that is due sooner than it need be finds nothing to do."""
        batch, queue, now_s = self._batch, self._queue, self._events.now_s
        due_s = math.inf
        self._token_rate = self._prefill_rate = 0.0
        if self._is_down:
            return
        if queue and (queue[0].is_handed_over or len(batch) < self._limit):
            if batch:
                self._share(queue[0])
            else:
                self._prefill_rate = 1.0
            due_s = now_s + self._left_s / self._prefill_rate if self._left_s > 0.0 else now_s
        elif batch:
            self._token_rate = 1.0 / self._steps[len(batch)]
        if batch:
            tokens = batch[0][0] - self._tokens
            ends_s = now_s + tokens / self._token_rate if tokens > 0.0 else now_s
            if ends_s < due_s:
                due_s = ends_s
        if due_s < self._due_s:
            self._due_s = due_s
            self._events.at(due_s, self._fire, due_s)

    def _share(self, head: Request) -> None:
        """Rates of a prefill and a batch that share their steps."""
        step_s = self._steps[len(self._batch)] * (1.0 - self.spec.overlap)
        waiting = head.uncached_tokens if len(self._queue) == 1 else self.spec.chunk_tokens
        chunk_s = head.work_s * min(self.spec.chunk_tokens, max(waiting, 1)) / max(head.uncached_tokens, 1)
        self._token_rate = 1.0 / (chunk_s + step_s)
        self._prefill_rate = chunk_s * self._token_rate

    def _fire(self, due_s: float) -> None:
        if due_s != self._due_s:
            return  # another event has taken this one's place
        self._due_s = math.inf
        self._advance()
        batch, queue = self._batch, self._queue
        while batch and batch[0][0] <= self._tokens + TOKEN_EPSILON:
            self.hooks.answered(heappop(batch)[2])
        if self._ready:
            self._admit()
        if queue and self._left_s <= WORK_EPSILON_S and (queue[0].is_handed_over or len(batch) < self._limit):
            request = queue.popleft()
            self.hooks.prefilled(request)
            if not request.is_handed_over:
                self._decode(request, self._events.now_s)
            if queue:
                self._begin()
        self._settle()
