"""The last decisions, with their reasons and what became of them."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from prfaas.types import TransferReport

ANSWERED = "answered"


@dataclass(frozen=True, slots=True)
class Try:
    """One try of a request.

    Attributes:
        decode: the engine that was to answer.
        prefill: the other engine that was to prefill, None when the decode engine was to do it.
        stage: where it ended: ``prefill``, ``transfer`` or ``decode``.
        outcome: ``answered``, or the fault that ended it.
        seconds: from its beginning to its first output or its fault.
    """

    decode: str
    prefill: str | None
    stage: str
    outcome: str
    seconds: float


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
    """The most recent decisions, oldest dropped first."""

    def __init__(self, capacity: int = 256) -> None:
        """``capacity`` bounds memory: a decision takes one or two kilobytes."""
        self.capacity = capacity
        self._decisions: OrderedDict[str, Decision] = OrderedDict()

    def put(self, decision: Decision) -> None:
        """Add a decision, or replace the one of the same request."""
        self._decisions[decision.request_id] = decision
        if len(self._decisions) > self.capacity:
            self._decisions.popitem(last=False)

    def latest(self) -> Decision:
        """The decision of the request that came last; StopIteration when there was none."""
        return self._decisions[next(reversed(self._decisions))]

    def __iter__(self) -> Iterator[Decision]:
        """All kept decisions, the latest first."""
        return reversed(self._decisions.values())

    def get(self, request_id: str) -> Decision | None:
        """The decision of this request, None when there is none or it was dropped."""
        return self._decisions.get(request_id)

    def latest_first(self) -> list[Mapping[str, Any]]:
        """All kept decisions as plain values."""
        return [msgspec.to_builtins(decision) for decision in self]
