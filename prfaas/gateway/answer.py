"""An engine's answer from its first output on, in parts that may be shown to a client."""

from prfaas.errors import EngineUnavailable
from prfaas.gateway.openai_error import in_openai_shape
from prfaas.gateway.upstream import AnswerTooLarge, Upstream, UpstreamAnswer
from prfaas.tracing import TraceContext

MAX_EVENT_BYTES = 8 * 1024 * 1024
"""An event carries a few tokens and their logprobs; one this long is no event."""


ERROR_EVENTS = (b'data: {"error":', b"event: error")
"""How vLLM begins the event that tells of a failure after the stream has begun, in OpenAI's API and in Anthropic's. No
line within another event begins so."""


FULL_STATUSES = (429, 503)
"""An engine that is well and has enough to do."""


class EngineFailed(EngineUnavailable):
    """An engine that answers, but with a failure of its own (5xx), or that it has enough to do (429)."""

    def __init__(self, engine: str, status: int) -> None:
        super().__init__(f"engine {engine} answers {status}")
        self.status = status


class Answer:
    """An answer that has begun: ``first`` is there. Owns its connection until ``close``.

    Streams are passed on in whole events, their bytes unchanged, so that a stream that breaks off never leaves
    half an event with the client. Other answers are held until they are complete: ``first`` is all there is.

    Attributes:
        has_failed: the engine has put an error into its stream, which by then has the status 200.
    """

    def __init__(self, upstream: UpstreamAnswer) -> None:
        self._upstream = upstream
        self._tail = b""
        self.first = b""
        self.has_failed = False
        self.status = upstream.status
        self.content_type = upstream.content_type
        self.is_stream = upstream.status == 200 and upstream.content_type.startswith("text/event-stream")

    @classmethod
    async def open(
        cls, upstream: Upstream, engine: str, path: str, body: bytes, trace: TraceContext | None = None
    ) -> "Answer":
        """Send the request and wait for the first output.

        Raises:
            EngineFailed: the engine answers 5xx or 429.
            AnswerTooLarge: the answer, or its first event, is longer than anything sensible.
            EngineUnavailable: it cannot be reached, or breaks off before the first output.
        """
        answer = cls(await upstream.post(engine, path, body, trace))
        try:
            if answer.status >= 500 or answer.status in FULL_STATUSES:
                raise EngineFailed(engine, answer.status)
            answer.first = await answer._next_events() if answer.is_stream else await answer._upstream.read_all()
            if not answer.first and answer.status < 400:  # a refusal may do without words
                raise EngineUnavailable(f"engine {engine}: its answer is empty")
            if answer.has_failed:
                raise EngineFailed(engine, 500)
            if answer.status >= 400:
                answer.first = in_openai_shape(answer.first)
        except BaseException:
            answer.close()
            raise
        return answer

    async def next_part(self) -> bytes:
        """What follows ``first``, part by part, empty at the end. Raises EngineUnavailable when it breaks off."""
        return await self._next_events() if self.is_stream else b""

    def close(self) -> None:
        """Let go of the connection; an engine that has not finished aborts. Idempotent."""
        self._upstream.close()

    async def _next_events(self) -> bytes:
        """One or more whole events, empty at the end."""
        while data := await self._upstream.read_some():
            data = self._tail + data
            if end := _end_of_events(data):
                self._tail = data[end:]
                self.has_failed |= data.startswith(ERROR_EVENTS) or _has_later_error(data)
                return data[:end]
            if len(data) > MAX_EVENT_BYTES:
                raise AnswerTooLarge(f"an event exceeds {MAX_EVENT_BYTES} bytes")
            self._tail = data
        rest, self._tail = self._tail, b""
        return rest


def _end_of_events(data: bytes) -> int:
    """Where the last whole event ends, 0 when none does."""
    end = data.rfind(b"\n\n") + 2
    if b"\r" in data and (at := data.rfind(b"\r\n\r\n")) >= 0:
        end = max(end, at + 4)
    return end if end > 1 else 0


def _has_later_error(events: bytes) -> bool:
    return b"\n" + ERROR_EVENTS[0] in events or b"\n" + ERROR_EVENTS[1] in events
