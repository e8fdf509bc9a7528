"""Traces as those see them who make spans: a tracer that is given to them. What becomes of spans is for ``observe``.

A trace is told where it passes from one process to another by a W3C trace context (www.w3.org/TR/trace-context): in the
headers ``traceparent`` and ``tracestate`` of HTTP requests, and under these names in what a transfer is told by.
"""

import re
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol, Self, TypeAlias

Value: TypeAlias = str | int | float | bool | None
"""Of an attribute: ids, names, counts and our own words, never a prompt, a key or a secret. None is left out."""
Kind: TypeAlias = Literal["internal", "server", "client"]

TRACEPARENT_CHARS = 55
MAX_TRACESTATE_CHARS = 512
"""What everybody who passes one on has to keep, and so all that anybody can rely on."""
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_STATE_KEY = r"(?:[a-z][_0-9a-z\-*/]{0,255}|[a-z0-9][_0-9a-z\-*/]{0,240}@[a-z][_0-9a-z\-*/]{0,13})"
_STATE_VALUE = r"[ -+\--<>-~]{0,255}[!-+\--<>-~]"
_STATE_MEMBER = re.compile(f"({_STATE_KEY})={_STATE_VALUE}")
MAX_STATE_MEMBERS = 32


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A span of another process, for those that begin within it."""

    traceparent: str
    tracestate: str = ""

    @classmethod
    def parse(cls, traceparent: object, tracestate: object = "") -> Self | None:
        """From what somebody gave; None for no context or a wrong one, which is never a reason to refuse anything. Of a
        later version of the standard what this one knows is kept; a wrong or long ``tracestate`` is dropped."""
        if not isinstance(traceparent, str) or not _TRACEPARENT.fullmatch(traceparent[:TRACEPARENT_CHARS]):
            return None
        rest = traceparent[TRACEPARENT_CHARS:]
        if rest and (traceparent.startswith("00") or not rest.startswith("-")):
            return None
        is_right = isinstance(tracestate, str) and _is_tracestate(tracestate)
        return cls(traceparent[:TRACEPARENT_CHARS], str(tracestate) if is_right else "")

    def fields(self) -> dict[str, str]:
        """By the names that it has in headers and in parameters of transfers."""
        return {"traceparent": self.traceparent} | ({"tracestate": self.tracestate} if self.tracestate else {})


def _is_tracestate(text: str) -> bool:
    """Whether it keeps to the standard's grammar: OpenTelemetry logs what does not, and it is a stranger's text."""
    if len(text) > MAX_TRACESTATE_CHARS:
        return False
    members = [each.strip(" \t") for each in text.split(",")]
    found = [_STATE_MEMBER.fullmatch(each) for each in members if each]
    keys = [each[1] for each in found if each]
    return len(keys) == len(found) == len(set(keys)) <= MAX_STATE_MEMBERS


class Span(Protocol):
    """Something that takes time; ends once, also as a context manager, which notes how it failed."""

    @property
    def context(self) -> TraceContext | None:
        """For what begins within it elsewhere; None where nothing is traced."""
        ...

    def note(self, **attributes: Value) -> None:
        """What has become known of it."""
        ...

    def fail(self, why: str) -> None:
        """It failed; ``why`` in our own words."""
        ...

    def end(self) -> None:
        """It is over. Idempotent."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Tracer(Protocol):
    """Where spans are begun. Never blocks, never raises.

    Attributes:
        is_on: anything is traced; where not, contexts need not be looked for.
    """

    is_on: bool

    @property
    def dropped_spans(self) -> int:
        """Spans that ended and reached nobody."""
        ...

    def span(
        self,
        name: str,
        parent: Span | TraceContext | None = None,
        *,
        kind: Kind = "internal",
        link: TraceContext | None = None,
        **attributes: Value,
    ) -> Span:
        """Begin one; without a parent a new trace. ``link`` is a span that it has to do with and does not belong to."""
        ...

    def close(self, timeout_s: float) -> None:
        """Send what has not been sent, as far as that succeeds within the time."""
        ...


class NoSpan:
    """A span of which nothing is kept."""

    context = None

    def note(self, **attributes: Value) -> None:
        pass

    def fail(self, why: str) -> None:
        pass

    def end(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class NoTracer:
    """Traces nothing."""

    is_on = False
    dropped_spans = 0

    def span(
        self,
        name: str,
        parent: Span | TraceContext | None = None,
        *,
        kind: Kind = "internal",
        link: TraceContext | None = None,
        **attributes: Value,
    ) -> Span:
        return NO_SPAN

    def close(self, timeout_s: float) -> None:
        pass


NO_SPAN = NoSpan()
NO_TRACER = NoTracer()
