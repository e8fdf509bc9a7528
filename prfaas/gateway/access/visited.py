"""The answer to a visit: a relay whose output is measured, with the visit closed at its end."""

from collections.abc import Awaitable, Callable

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from prfaas.gateway.access.usage import UsageMeter
from prfaas.gateway.access.visit import Visit
from prfaas.gateway.error_shape import Shape, ShapedSend


class Visited(Response):
    """Runs the relay of a visit and closes the visit just before the last part leaves, so that a client that sends its
    next request at once finds its place free. Whatever else ends the relay closes it too."""

    def __init__(
        self, relay: Response, visit: Visit, shape: Shape | None, note_answer: Callable[[int], None] | None = None
    ) -> None:
        """``shape`` is how the API writes its errors, None where the relay does it right. ``note_answer`` is told once
        how many tokens an answer had, whether it came to its end or not."""
        self.background = None
        self._relay = relay
        self._visit = visit
        self._shape = shape
        self._note_answer = note_answer
        self._usage = UsageMeter()
        self._status = 0
        self._is_closed = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._shape is not None:
            send = ShapedSend(send, self._shape)

        note = self._usage.note  # looked up once: this runs for every part of a stream

        def measured(message: Message) -> Awaitable[None]:
            if body := message.get("body"):
                note(body)
            if not message.get("more_body"):
                self._begin_or_close(message)
            return send(message)

        try:
            await self._relay(scope, receive, measured)
        finally:
            self._close()

    def _begin_or_close(self, message: Message) -> None:
        if message["type"] != "http.response.start":
            self._close()
            return
        self._status = message["status"]
        limits = [(name.encode(), value.encode()) for name, value in self._visit.headers().items()]
        message["headers"] = [*message["headers"], *limits]

    def _close(self) -> None:
        """A refused request cost nothing; one that was broken off has cost at least its prompt. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._status >= 400:
            self._visit.close(0)
            return
        prompt, answer = self._usage.used(self._visit.expected_tokens)
        self._visit.close(prompt + answer)
        if answer and self._note_answer is not None:
            self._note_answer(answer)
