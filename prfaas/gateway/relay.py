"""The answer to a placed request: runs it, passes its output on, and ends it when the client leaves.

A bare ASGI callable, because the cost of a framework per chunk is what makes Python gateways slow.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from prfaas.errors import EngineUnavailable, RequestRejected
from prfaas.gateway.answer import Answer, EngineFailed
from prfaas.gateway.attempt import cancel
from prfaas.gateway.client import client_left
from prfaas.gateway.execution import Execution
from prfaas.gateway.openai_error import error_body, internal_error, stopping, timed_out
from prfaas.gateway.record import Job, headers_of, log_ended, note_ended, outcome_of, recompute_cause
from prfaas.gateway.services import GatewayServices
from prfaas.gateway.upstream import AnswerTooLarge

EARLY_REPORT_S = 0.003
"""How long the first output may wait for the report of its transfer, so that the headers can carry it."""
LATE_REPORT_S = 1.0
"""How long the record of a finished request waits for that report; the client has its answer by then."""
ERROR_TIMEOUT_S = 5.0
"""A client that does not read its error within this time is cut off."""
STOP_TIMEOUT_S = 2.0
"""The same while the gateway stops: whoever stops it waits."""
FULL_RETRY_AFTER_S = 1
"""Nobody knows when a full engine has room; within a second others of its requests have ended."""


class Relay(Response):
    """Runs one job and relays its answer. Ends the job, on all engines, when the client goes away."""

    def __init__(self, services: GatewayServices, job: Job) -> None:
        self.background = None
        self._services = services
        self._job = job
        self._decision = job.decision()
        self._is_started = False
        self._is_stream = False
        self._is_complete = False
        services.decisions.put(job.decision())  # as it was taken, until it is known what became of it

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answering = asyncio.create_task(self._answer(send))
        leaving = asyncio.create_task(client_left(receive))
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if self._is_complete or answering.done():
                # A complete answer counts as a leave too; what remains is the wait for the report, which is short.
                await answering
            else:
                self._note(outcome="cancelled", detail="the client went away")
        except asyncio.CancelledError:
            # The server cancels a request once, when its patience at shutdown ends; what follows is the end it wants.
            await cancel(answering, leaving)
            if not self._is_complete:
                await self._send_error(stopping(), "the gateway stops", send, STOP_TIMEOUT_S)
        finally:
            await cancel(answering, leaving)
            self._end()

    async def _answer(self, send: Send) -> None:
        """Run the job and send its answer, or the error that stands for it."""
        execution, pace = self._job.execution(self._services), self._services.pace
        answer: Answer | None = None
        try:
            async with asyncio.timeout(self._left_s()):
                answer = await execution.open()
                await self._send_head(answer, execution, send)
                part = answer.first
                while part:
                    await send({"type": "http.response.body", "body": part, "more_body": True})
                    if pace.rest_s and answer.is_stream:
                        await asyncio.sleep(pace.rest_s)
                    part = await answer.next_part()
                await send({"type": "http.response.body", "body": b""})
            self._is_complete = True
        except (EngineUnavailable, TimeoutError) as error:
            if answer is not None and isinstance(error, EngineUnavailable):
                execution.broke_off(error)
            await self._send_error(_rejection(error), str(error) or "the request timed out", send)
        except OSError:
            self._note(outcome="cancelled", detail="the client went away")
        except Exception:
            # A bug of ours: the client gets a clean end, the server's log the traceback.
            await self._send_error(internal_error(), "internal error", send)
            raise
        else:
            # Outside the deadline and its errors: nothing that happens now makes a complete answer a failed one.
            if answer.has_failed:
                execution.broke_off(EngineFailed(execution.way.decode, 500))
            await execution.stop_engines()
            await self._settle(execution, LATE_REPORT_S)
            if answer.has_failed:
                self._note(outcome="error", detail="the engine ended its stream with an error")
        finally:
            self._note(
                tries=execution.tries,
                prefilled_after_s=execution.prefilled_after_s,
                reported_after_s=execution.reported_after_s,
            )
            await execution.aclose()

    async def _send_head(self, answer: Answer, execution: Execution, send: Send) -> None:
        self._note(status=answer.status, first_output_s=self._elapsed_s(), detail=execution.fallback_reason)
        self._note(decode=execution.way.decode)
        if execution.transfer is not None:
            self._note(prefill=execution.prefill, transfer_id=execution.transfer.transfer_id)
        await self._settle(execution, EARLY_REPORT_S)
        headers = [(b"content-type", answer.content_type.encode("latin-1"))]
        self._is_stream = answer.is_stream
        if answer.is_stream:
            headers += [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
        else:
            headers.append((b"content-length", str(len(answer.first)).encode()))
        await self._start(answer.status, headers, send)

    async def _settle(self, execution: Execution, timeout_s: float) -> None:
        """Note the outcome as far as it is known within ``timeout_s``."""
        is_refused = (self._decision.status or 0) >= 400
        report = self._decision.report or await execution.report_within(0 if is_refused else timeout_s)
        outcome = outcome_of(self._decision, is_recomputed=execution.is_recomputed, report=report)
        self._note(outcome="error" if is_refused else outcome, report=report)

    async def _send_error(
        self, error: RequestRejected, detail: str, send: Send, timeout_s: float = ERROR_TIMEOUT_S
    ) -> None:
        """Answer with an error; once output has left, end the stream with an error event instead.

        Of an answer that is no stream the length is announced, so its connection is closed, and the client sees that
        something is missing.
        """
        self._note(outcome="error", detail=detail)
        body = error_body(error)
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(timeout_s):
                if not self._is_started:
                    self._note(status=error.status)
                    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
                    if error.retry_after_s is not None:
                        headers.append((b"retry-after", str(error.retry_after_s).encode()))
                    await self._start(error.status, headers, send)
                    await send({"type": "http.response.body", "body": body})
                elif self._is_stream:
                    await send({"type": "http.response.body", "body": b"data: " + body + b"\n\n"})
                self._is_complete = True

    async def _start(self, status: int, headers: Iterable[tuple[bytes, bytes]], send: Send) -> None:
        site = self._services.config.engines[self._decision.prefill or self._decision.decode].site
        all_headers = [*headers, *headers_of(self._decision, site)]
        await send({"type": "http.response.start", "status": status, "headers": all_headers})
        self._is_started = True

    def _note(self, **changes: object) -> None:
        self._decision.note(**changes)

    def _left_s(self) -> float:
        """Until the deadline, which counts from the request's arrival."""
        return max(0.0, self._services.config.gateway.request_timeout_s - self._elapsed_s())

    def _elapsed_s(self) -> float:
        return self._services.clock.now_s() - self._job.started_s

    def _end(self) -> None:
        self._note(total_s=self._elapsed_s())
        self._services.decisions.put(self._decision)
        if self._decision.report is not None:
            self._services.view.note_transfer(self._decision.report)
        log_ended(self._decision)
        note_ended(self._job.span, self._decision)
        metrics, is_stream = self._services.metrics, self._job.request.is_stream
        metrics.count_ended(self._decision, is_stream=is_stream, cause=recompute_cause(self._decision))


def _rejection(error: EngineUnavailable | TimeoutError) -> RequestRejected:
    if isinstance(error, EngineFailed) and error.status == 501:
        message = "The engines behind this gateway do not serve this API."
        return RequestRejected(404, message, code="unsupported_endpoint")
    if isinstance(error, EngineFailed | AnswerTooLarge):
        return _failed(error.status if isinstance(error, EngineFailed) else 500)
    if isinstance(error, EngineUnavailable):
        message = "The engine cannot be reached or broke off; try again."
        return RequestRejected(503, message, kind="server_error", code="engine_unavailable")
    return timed_out()


def _failed(status: int) -> RequestRejected:
    """What the client gets for what the last engine answered; one that is merely full may have room soon."""
    if status == 429:
        message, kind = "The engine has enough to do; try again.", "rate_limit_error"
        return RequestRejected(429, message, kind=kind, code="full", retry_after_s=FULL_RETRY_AFTER_S)
    shown, retry_after_s = (503, FULL_RETRY_AFTER_S) if status == 503 else (502, None)
    message, kind = "The engine failed to answer.", "server_error"
    return RequestRejected(shown, message, kind=kind, code="engine_error", retry_after_s=retry_after_s)
