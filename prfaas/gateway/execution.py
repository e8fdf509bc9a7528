"""One placed request on its engines, try after try within its deadline.

A try that fails before its first output is closed on all its engines, and the next way is taken: another engine that
prefills, the decode engine alone, another decode engine. Only one decode request is open at any time, and after the
first output nothing is ever sent again, so no token can reach the client twice.
"""

from dataclasses import replace

from prfaas.errors import EngineUnavailable
from prfaas.fleet.failures import AGAINST_ENGINE, Fault
from prfaas.fleet.prefill_meter import Work
from prfaas.gateway.answer import Answer
from prfaas.gateway.api_request import ApiRequest
from prfaas.gateway.attempt import Attempt
from prfaas.gateway.deadlines import allowed_silence_s, remote_stage
from prfaas.gateway.faults import TryFailed, fault_of
from prfaas.gateway.payload import Transfer
from prfaas.gateway.prompt.token_ids import TokenIds
from prfaas.gateway.services import GatewayServices
from prfaas.gateway.ways import MAX_TRIES, Lost, Way, next_way
from prfaas.observe.decisions import ANSWERED, Try
from prfaas.routing.placement import Placement
from prfaas.tracing import NO_SPAN, Span
from prfaas.types import TransferReport


class Execution:
    """Runs the request; owns all it has started until ``aclose``.

    Attributes:
        way: the engines of the latest try.
        prefill: the other engine that was to prefill last, None when there never was one.
        transfer: its transfer.
        tries: all that have ended in an output or a fault, in order.
    """

    def __init__(
        self,
        services: GatewayServices,
        request: ApiRequest,
        ids: TokenIds | None,
        placement: Placement,
        transfer: Transfer | None,
        started_s: float,
        span: Span = NO_SPAN,
    ) -> None:
        """``transfer`` is the first try's; ``started_s`` is when the request arrived, on the services' clock; ``span``
        is the request's."""
        self._services = services
        self._span = span
        self._request = request
        self._ids = ids
        self._placement = placement
        self._first = transfer
        self._started_s = started_s
        self._deadline_s = started_s + services.config.gateway.request_timeout_s
        self._ways: tuple[Way, ...] | None = None
        self._attempt: Attempt | None = None
        self._problems: list[str] = []
        is_remote = transfer is not None and ids is not None
        self.way = Way(placement.decode, placement.prefill if is_remote else None)
        self.prefill: str | None = None
        self.transfer: Transfer | None = None
        self.tries: tuple[Try, ...] = ()

    @property
    def fallback_reason(self) -> str:
        """What became of the tries before the latest, empty when it is the first."""
        return "; ".join(self._problems)

    @property
    def is_recomputed(self) -> bool:
        """Was the prefill given up for one by the decode engine, or that of another site for one of this site?"""
        if self.way.prefill is None:
            return self._placement.prefill is not None
        config = self._services.config
        return self._placement.is_remote and config.engines[self.way.prefill].site == config.gateway.site

    async def open(self) -> Answer:
        """Take one way after the other until the first output. Raises EngineUnavailable when none leads there."""
        lost, count, is_forced = Lost(), 0, False
        while True:
            try:
                return await self._try(is_forced, self._silence_s(lost) if count < MAX_TRIES - 1 else None)
            except TryFailed as failure:
                lost = lost.after(self.way, failure.stage, failure.fault)
                count += failure.fault is not Fault.OPEN
                following = self._next_way(lost)
                if following is None and failure.fault is Fault.OPEN and not self._is_closed(self._placement.decode):
                    # A breaker saves time where there is another way. A refusal for certain saves nothing.
                    following, is_forced = Way(self._placement.decode, None), True
                if following is None or count >= MAX_TRIES:
                    raise failure.error from None
                self._problems.append(str(failure))
                self.way = following

    def broke_off(self, error: EngineUnavailable) -> None:
        """The answer failed after its first output: that is held against the decode engine, unless a reload has put
        another one in its place, and nothing is tried."""
        fault = fault_of(error)
        self._services.metrics.count_fault("stream", fault)
        if self._attempt is not None:
            self._attempt.fail(fault)
        if fault in AGAINST_ENGINE and self._services.upstream.is_current(self.way.decode):
            self._services.fleet.breakers.blame(self.way.decode)

    @property
    def prefilled_after_s(self) -> float | None:
        """Seconds from the request's arrival to the other engine's word, in the latest try, that it has prefilled."""
        return self._after(self._attempt.prefilled_s if self._attempt else None)

    @property
    def reported_after_s(self) -> float | None:
        """The same to the decode side's word on the transfer."""
        return self._after(self._attempt.reported_s if self._attempt else None)

    async def report_within(self, timeout_s: float) -> TransferReport | None:
        """The decode side's word on the transfer, None when it has none or does not come in time."""
        return await self._attempt.report_within(timeout_s) if self._attempt else None

    async def stop_engines(self) -> None:
        """Close all requests; the engines abort what they had not finished. The report may still come."""
        if self._attempt is not None:
            await self._attempt.stop_engines()

    async def aclose(self) -> None:
        """Close whatever still runs. Idempotent."""
        if self._attempt is not None:
            await self._attempt.aclose()

    def _silence_s(self, lost: Lost) -> float | None:
        """How long the decode engine may be silent, None where patience is all there is: no other engine could answer,
        or the answer comes as a whole at its end."""
        if not self._request.is_stream or not self._next_way(lost.after(self.way, "decode", Fault.LATE)):
            return None
        predicted_s = None if self.tries else self._placement.first_token_s
        patience_s = self._services.config.policy.first_output_patience_s
        return allowed_silence_s(patience_s, predicted_s, has_cache=self.way.prefill is not None)

    async def _try(self, is_forced: bool, silence_s: float | None) -> Answer:
        """Take one way. Raises TryFailed once all of it is closed."""
        began_s = self._services.clock.now_s()
        stage = remote_stage(max(0.0, self._deadline_s - began_s), self._services.config.policy.remote_timeout_s)
        transfer = self._transfer_to(self.way.prefill, stage.transfer_s)
        if transfer is not None:
            self.prefill, self.transfer = self.way.prefill, transfer
        self._attempt = Attempt(
            self._services,
            self._request,
            self._ids,
            self.way,
            transfer,
            patience_s=stage.patience_s,
            is_forced=is_forced,
            uncached_tokens=self._placement.uncached_tokens or 0,
            work=self._placed_work(),
            silence_s=silence_s,
            span=self._span,
        )
        try:
            answer = await self._attempt.open()
        except TryFailed as failure:
            if failure.stage != "prefill":  # that has a span of its own
                self._attempt.fail(failure.fault)
            with self._services.fleet.load(self.way.decode):  # the next try may go there again: no drain is over before
                await self._attempt.aclose()
            self._services.metrics.count_fault(failure.stage, failure.fault)
            self._record(failure.stage, failure.fault, began_s)
            raise
        self._record("decode", ANSWERED, began_s)
        return answer

    def _placed_work(self) -> Work | None:
        """What the placed engine has to prefill; what another one has cached of the prompt was not looked for."""
        uncached = self._placement.uncached_tokens
        if self.tries or uncached is None or self._ids is None:
            return None
        return Work(uncached, len(self._ids) - uncached)

    def _transfer_to(self, prefill: str | None, timeout_s: float) -> Transfer | None:
        """The placement's transfer the first time; then new ids, for whatever is still on its way is another one's."""
        if prefill is None:
            return None
        first, self._first = self._first, None
        if first is not None:
            return replace(first, timeout_s=timeout_s)
        ids, remote = self._services.ids, self._services.config.engines[prefill].kv
        return Transfer(ids.transfer_id(), ids.secret(), remote, timeout_s)

    def _next_way(self, lost: Lost) -> Way | None:
        """The placement's next alternative, as far as its engines still take requests."""
        if self._ways is None:
            self._ways = tuple(Way(each.decode, each.prefill) for each in self._placement.alternatives)
        return next_way(self._ways, lost, self._is_closed)

    def _is_closed(self, engine: str) -> bool:
        """It was drained, removed or moved since the placement. Where the request is already, it may end."""
        if engine == self.way.decode:
            return False
        return not self._services.upstream.is_current(engine) or self._services.fleet.status(engine).is_draining

    def _after(self, at_s: float | None) -> float | None:
        return None if at_s is None else at_s - self._started_s

    def _record(self, stage: str, outcome: str, began_s: float) -> None:
        seconds = round(self._services.clock.now_s() - began_s, 4)
        began_after_s = round(began_s - self._started_s, 4)
        self.tries = (*self.tries, Try(self.way.decode, self.way.prefill, stage, outcome, seconds, began_after_s))
