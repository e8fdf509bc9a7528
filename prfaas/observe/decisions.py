"""The last decisions, with their reasons and what became of them."""

import uuid
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from prfaas.types import TransferReport

ANSWERED = "answered"
MAX_DIGITS = 18
"""Of a cursor's count: more decisions than a gateway ever takes."""


@dataclass(frozen=True, slots=True)
class Try:
    """One try of a request.

    Attributes:
        decode: the engine that was to answer.
        prefill: the other engine that was to prefill, None when the decode engine was to do it.
        stage: where it ended: ``prefill``, ``transfer`` or ``decode``.
        outcome: ``answered``, or the fault that ended it.
        seconds: from its beginning to its first output or its fault.
        began_after_s: seconds from the request's arrival to its beginning.
    """

    decode: str
    prefill: str | None
    stage: str
    outcome: str
    seconds: float
    began_after_s: float = 0.0


@dataclass(slots=True)
class Decision:
    """One request from its placement to its end. Holds no prompt, no secret and no output. Its relay writes down in its
    own what becomes known; one that is in the ring never changes.

    Attributes:
        request_id: the gateway's id of the request, also the header ``x-request-id``.
        endpoint: which API was called: ``chat``, ``completions``, ``messages``, ...
        placement: ``local`` or ``remote``, as decided, or ``refused``.
        decode: the engine that answers, empty when refused.
        prefill: another engine that prefills, of another site if remote; the last one when several were tried;
            None when the decode engine does it.
        reasons: why, in the order in which they were found.
        prompt_tokens: None when only the engine knows.
        transfer_id: None where no cache is handed over.
        placed_after_s: seconds from the request's arrival to its placement.
        uncached_tokens: prompt tokens that the prefill engine had to compute, None when unknown.
        predicted_first_token_s: seconds from the placement to the first token, as predicted; None when it was not.
        candidates: the ways to serve it that were compared, the chosen one first; frozen values.
        status: HTTP status of the answer, None while there is none.
        outcome: ``running``, then ``local``, ``remote`` (the remote cache was used), ``recomputed`` (it was not),
            ``unknown`` (answered, but without a report), ``error``, ``cancelled`` (the client left) or ``refused``.
        detail: what went wrong, empty when nothing did.
        first_output_s: seconds from the request's arrival to the first output of the engine.
        total_s: seconds from the request's arrival to the end of the answer.
        report: the decode side's word on the transfer, if one came.
        tenant: whose request it is, empty where everybody may use the gateway.
        waited_s: how long it waited for its turn.
        tries: on which engines it was tried, in order, and what came of it.
        arrived_unix_s: when the request arrived, by the gateway's clock; 0 when nobody said.
        is_stream: its answer comes in parts; else the first output is the whole answer.
        read_after_s: seconds from the request's arrival to the last byte of its body.
        tokenised_after_s: to its tokens, or to the knowledge that none are needed.
        prefilled_after_s: to the other engine's word, in the last try, that the prompt is prefilled; None without one.
        reported_after_s: to the decode side's word on the transfer; None without one.
    """

    request_id: str
    endpoint: str
    placement: str
    decode: str
    prefill: str | None
    reasons: tuple[str, ...]
    prompt_tokens: int | None
    transfer_id: str | None
    placed_after_s: float = 0.0
    uncached_tokens: int | None = None
    predicted_first_token_s: float | None = None
    candidates: tuple[object, ...] = ()
    status: int | None = None
    outcome: str = "running"
    detail: str = ""
    first_output_s: float | None = None
    total_s: float | None = None
    report: TransferReport | None = None
    tenant: str = ""
    waited_s: float = 0.0
    tries: tuple[Try, ...] = ()
    arrived_unix_s: float = 0.0
    is_stream: bool = False
    read_after_s: float = 0.0
    tokenised_after_s: float = 0.0
    prefilled_after_s: float | None = None
    reported_after_s: float | None = None

    @property
    def prediction_ratio(self) -> float | None:
        """Measured over predicted seconds from the placement to the first output, where the request went as it was
        placed; None else, and where nothing was predicted."""
        predicted_s, output_s = self.predicted_first_token_s, self.first_output_s
        is_as_placed = self.status == 200 and self.outcome == self.placement and len(self.tries) <= 1
        if not predicted_s or output_s is None or not is_as_placed:
            return None
        return max(0.0, output_s - self.placed_after_s) / predicted_s

    def note(self, **changes: object) -> None:
        """Write down what has become known."""
        for name, value in changes.items():
            setattr(self, name, value)


class DecisionRing:
    """The most recent decisions, oldest dropped first. Iterating gives them, the latest first."""

    def __init__(self, capacity: int = 256) -> None:
        """``capacity`` bounds memory: a decision takes one or two kilobytes."""
        self.capacity = capacity
        # By id and arrival: an id may be the client's, and hides no other request that came with the same.
        self._kept: OrderedDict[tuple[str, float], tuple[int, Decision]] = OrderedDict()
        self._epoch, self._puts = uuid.uuid4().hex[:8], 0

    def put(self, decision: Decision) -> None:
        """Add a decision, or replace the one of the same request."""
        self._puts += 1
        self._kept[decision.request_id, decision.arrived_unix_s] = self._puts, decision
        if len(self._kept) > self.capacity:
            self._kept.popitem(last=False)

    def __iter__(self) -> Iterator[Decision]:
        return (decision for _, decision in reversed(self._kept.values()))

    def latest(self) -> Decision:
        """The decision of the request that came last; StopIteration when there was none."""
        return next(iter(self))

    def get(self, request_id: str) -> Decision | None:
        """The decision of the latest request with this id, None when there is none or it was dropped."""
        return next((decision for decision in self if decision.request_id == request_id), None)

    @property
    def cursor(self) -> str:
        """What ``after`` takes to give what comes from now on."""
        return f"{self._epoch}-{self._puts}"

    def after(self, cursor: str) -> list[Decision]:
        """What was put since the ring had this cursor, the latest first; all that is kept if it never had. Cursors of
        several rings may be given together, with commas between them."""
        own = next((part for part in cursor.split(",") if part.startswith(f"{self._epoch}-")), "")
        puts = own.rpartition("-")[2][:MAX_DIGITS]
        since = int(puts) if puts.isascii() and puts.isdecimal() else 0
        return [decision for put, decision in reversed(self._kept.values()) if put > since]

    def latest_first(self) -> list[Mapping[str, Any]]:
        """All kept decisions as plain values."""
        return [msgspec.to_builtins(decision) for decision in self]
