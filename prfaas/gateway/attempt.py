"""One try of a request on its engines.

A remote prefill is two requests at the same moment: the prompt to the prefill engine and the client's request to the
decode engine, which fetches the cache by itself. The gateway owns both. The try fails when the decode engine does, when
the prefill does before the decode engine has either its cache or an output, or when neither comes in its time. When the
decode engine reports that it recomputes, the prefill is stopped and the try goes on.
"""

import asyncio
from collections.abc import Awaitable
from typing import Any

from prfaas.errors import EngineUnavailable, TransferFailed
from prfaas.fleet.breakers import Permit
from prfaas.fleet.failures import Fault, report_fault
from prfaas.fleet.prefill_meter import Work
from prfaas.gateway.answer import Answer
from prfaas.gateway.api_request import ApiRequest
from prfaas.gateway.claims import Claims
from prfaas.gateway.faults import TryFailed, fault_of, fault_of_status
from prfaas.gateway.payload import PREFILL_PATH, Transfer, decode_body, prefill_body
from prfaas.gateway.prompt.token_ids import TokenIds
from prfaas.gateway.services import GatewayServices
from prfaas.gateway.upstream import EngineLate
from prfaas.gateway.ways import Way
from prfaas.tracing import NO_SPAN, Span, TraceContext
from prfaas.types import TransferReport


class Attempt:
    """Runs one try; owns all it has started until ``aclose``.

    Attributes:
        prefilled_s: when the other engine said that it has prefilled, on the services' clock; None before.
        reported_s: when the decode side told of the transfer; None before.
    """

    def __init__(
        self,
        services: GatewayServices,
        request: ApiRequest,
        ids: TokenIds | None,
        way: Way,
        transfer: Transfer | None,
        *,
        patience_s: float,
        is_forced: bool = False,
        uncached_tokens: int = 0,
        work: Work | None = None,
        silence_s: float | None = None,
        span: Span = NO_SPAN,
    ) -> None:
        """``transfer`` is None for a way without another prefill engine. ``is_forced`` ignores breakers.
        ``uncached_tokens`` are to be prefilled as far as is known. ``work`` is that for measuring, None when it is not
        known exactly. ``silence_s`` is how long the decode engine may be silent once it has its cache, or where it
        prefills itself from the beginning on; None for as long as it likes. ``span`` is the request's."""
        self._services = services
        self._request = request
        self._ids = ids
        self._way = way
        self._transfer = transfer
        self._patience_s = patience_s
        self._uncached_tokens = uncached_tokens
        self._work = work
        self._silence_s = silence_s
        self._claims = Claims(services, way, is_forced=is_forced)
        self._span = span
        self._decoding: Span = NO_SPAN
        self._answer: Answer | None = None
        self._prefill: asyncio.Task[TryFailed | None] | None = None
        self._report: asyncio.Task[TransferReport | None] | None = None
        self.prefilled_s: float | None = None
        self.reported_s: float | None = None

    async def open(self) -> Answer:
        """Start everything and wait for the first output. Raises TryFailed; then nothing of the try is wanted."""
        claims, way = self._claims, self._way
        decode_permit = claims.permit(way.decode, "decode")
        claims.load()
        if self._transfer is None or way.prefill is None or self._ids is None:
            claims.prefill_here(self._uncached_tokens, is_stream=self._request.is_stream)
            try:
                return await self._within_patience(self._decode(decode_permit), decode_permit)
            finally:
                claims.prefilled()
        claims.await_cache()
        prefill_permit = claims.permit(way.prefill, "prefill")
        claims.use_link(way.prefill)
        self._report = asyncio.create_task(self._watch(self._transfer, prefill_permit))
        self._prefill = asyncio.create_task(self._run_prefill(way.prefill, self._ids, self._transfer, prefill_permit))
        claims.prefill_at(way.prefill, self._uncached_tokens)
        # However long the answer goes on: nobody waits behind a prefill that has ended, and no trial is one that was
        # refused or stopped.
        self._prefill.add_done_callback(lambda _: claims.prefilled())
        self._prefill.add_done_callback(lambda _: prefill_permit.drop())
        decode = asyncio.create_task(self._decode(decode_permit))
        decode.add_done_callback(lambda _: claims.has_cache())
        # A whole answer ends long after its cache has come, and of some transfers no word comes.
        claims.load_prefill(way.prefill, self._prefill, self._report, decode)
        try:
            await self._until_prefill_is_over(decode, self._prefill, self._report)
            has_cache = self._report.done() and (report := self._report.result()) is not None and report.ok
            answer = await (self._within_patience(decode, decode_permit) if has_cache else decode)
            # There can be no stall any more: without a word of the transfer nothing is learnt of the link.
            self._report.add_done_callback(lambda _: claims.drop_link())
            return answer
        finally:
            # Either its result has been taken, or nobody wants it any more.
            await cancel(decode)

    def fail(self, fault: Fault) -> None:
        """What the decode engine was asked for has failed, before its first output or after: its span says so."""
        self._decoding.fail(fault)

    async def report_within(self, timeout_s: float) -> TransferReport | None:
        """The decode side's word on the transfer, None when it has none or does not come in time."""
        if self._report is None or self._report.cancelled():
            return None
        await asyncio.wait({self._report}, timeout=timeout_s)
        return self._report.result() if self._report.done() and not self._report.cancelled() else None

    async def stop_engines(self) -> None:
        """Close both requests; the engines abort what they had not finished. The report may still come."""
        if self._answer is not None:
            self._answer.close()
        self._decoding.end()
        self._claims.leave()
        await cancel(self._prefill)

    async def aclose(self) -> None:
        """Close whatever still runs. Idempotent."""
        await self.stop_engines()
        self._claims.prefilled()
        await cancel(self._report)
        self._claims.close()

    async def _until_prefill_is_over(
        self,
        decode: asyncio.Task[Answer],
        prefill: asyncio.Task[TryFailed | None],
        report: asyncio.Task[TransferReport | None],
    ) -> None:
        """Wait until the decode engine needs the prefill no more: it has an output, or the cache, or has given it up by
        itself. Raises TryFailed when that cannot come any more or does not come in time."""
        clock = self._services.clock
        ends_s = clock.now_s() + self._patience_s
        while not (decode.done() or (report.done() and report.result() is not None)):
            if prefill.done() and (failure := prefill.result()):
                raise failure
            left_s = ends_s - clock.now_s()
            if left_s <= 0:
                raise self._stalled()
            running = [task for task in (decode, prefill, report) if not task.done()]
            await asyncio.wait(running, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)

    async def _within_patience(self, decode: Awaitable[Answer], permit: Permit[str]) -> Answer:
        """The first output. Raises TryFailed, against the decode engine, when it is silent for too long."""
        engine, silence_s = self._way.decode, self._silence_s
        try:
            async with asyncio.timeout(silence_s):
                return await decode
        except TimeoutError:
            problem = EngineLate(f"engine {engine} has all it needs and is silent for {silence_s:.3g} s")
            raise self._claims.failed("decode", engine, Fault.LATE, problem, permit) from None

    def _stalled(self) -> TryFailed:
        self._claims.end_link(Fault.STALLED)
        problem = f"no cache from engine {self._way.prefill} within {self._patience_s:.3g} s"
        return TryFailed("transfer", Fault.STALLED, EngineUnavailable(problem))

    async def _decode(self, permit: Permit[str]) -> Answer:
        engine = self._way.decode
        self._decoding = span = self._span_of("decode", engine)
        body = decode_body(self._request, self._ids, self._transfer, span.context)
        work, is_stream = None if self._transfer else self._work, self._request.is_stream
        try:
            with (
                self._services.tracer.span("first token", span, engine=engine),
                self._services.view.speeds.measuring(engine, work, is_timed=is_stream) as prefilling,
            ):
                self._answer = await Answer.open(
                    self._services.upstream, engine, self._request.path, body, span.context
                )
                prefilling.is_over = self._answer.status == 200
        except EngineUnavailable as error:
            raise self._claims.failed("decode", engine, fault_of(error), error, permit) from None
        permit.end(True)
        if self._answer.status >= 400:  # passed on to the client
            self.fail(fault_of_status(self._answer.status))
        return self._answer

    async def _run_prefill(
        self, engine: str, ids: TokenIds, transfer: Transfer, permit: Permit[str]
    ) -> TryFailed | None:
        """Prefill to the end. Returns what went wrong, None when nothing did."""
        with self._span_of("prefill", engine) as span:
            failure = await self._prefilled(engine, ids, transfer, permit, span.context)
            if failure is not None:
                span.fail(failure.fault)
            return failure

    async def _prefilled(
        self, engine: str, ids: TokenIds, transfer: Transfer, permit: Permit[str], trace: TraceContext | None
    ) -> TryFailed | None:
        body = prefill_body(self._request, ids, transfer, trace)
        try:
            with self._services.view.speeds.measuring(engine, self._work) as prefilling:
                answer = await self._services.upstream.post(engine, PREFILL_PATH, body, trace)
                try:
                    await answer.read_all()
                finally:
                    answer.close()
                prefilling.is_over = answer.status == 200
        except EngineUnavailable as error:
            return self._claims.failed("prefill", engine, fault_of(error), error, permit)
        if answer.status == 200:
            self.prefilled_s = self._services.clock.now_s()
            permit.end(True)
            return None
        refusal = EngineUnavailable(f"engine {engine} answers {answer.status} to the prefill")
        return self._claims.failed("prefill", engine, fault_of_status(answer.status), refusal, permit)

    async def _watch(self, transfer: Transfer, prefill_permit: Permit[str]) -> TransferReport | None:
        """The decode side's word, None when none comes; that is not a failed request, its outcome is unknown."""
        target = self._services.config.engines[self._way.decode].kv
        try:
            report = await self._services.reports.wait(target, transfer.transfer_id, transfer.secret, self._patience_s)
        except TransferFailed:
            return None
        self.reported_s = self._services.clock.now_s()
        fault = None if report.ok else report_fault(report.reason)
        if fault is None:
            self._claims.prefilled()
            self._claims.has_cache()
            prefill_permit.end(True)  # its own answer, which nobody needs, may come after the client's whole answer
        self._claims.end_link(fault)
        if fault is not None:
            self._services.metrics.count_fault("transfer", fault)
            if self._prefill is not None:
                self._prefill.cancel()  # nobody fetches its cache any more
        return report

    def _span_of(self, name: str, engine: str) -> Span:
        """The span of one of its requests."""
        transfer_id = self._transfer.transfer_id if self._transfer else None
        site = self._services.config.engines[engine].site
        return self._services.tracer.span(
            name, self._span, kind="client", engine=engine, site=site, transfer_id=transfer_id
        )


async def cancel(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel what still runs and wait for all of it; results and errors have been taken or are not wanted."""
    running = []
    for task in tasks:
        if task is None or task.cancelled():
            continue
        if task.done():
            task.exception()  # has been looked at now
        else:
            task.cancel()
            running.append(task)
    if running:
        await asyncio.gather(*running, return_exceptions=True)
