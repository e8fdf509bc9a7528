"""What can go wrong with an engine or a link, and whom it is held against: one table."""

import enum


class Fault(enum.StrEnum):
    """One way in which a try fails; the values are metric labels and appear in decisions."""

    UNREACHABLE = "unreachable"
    """No connection to the engine."""
    BROKE_OFF = "broke_off"
    """The engine ended the connection before the end of its answer."""
    LATE = "late"
    """The engine did not accept or answer in time."""
    FAILED = "failed"
    """The engine answered 5xx, or put an error into its stream."""
    FULL = "full"
    """The engine answered 429 or 503: it is well and has enough to do."""
    REFUSED = "refused"
    """The engine answered 4xx: another request may be fine."""
    TOO_LARGE = "too_large"
    """One answer was longer than anything sensible."""
    STALLED = "stalled"
    """Neither the cache nor a word of it came in its share of the deadline."""
    TRANSFER = "transfer"
    """The decode engine lost the transfer on its way: a connection, bytes or the time."""
    DECLINED = "declined"
    """The decode engine did without the cache for reasons of its own or of the prefill engine's."""
    OPEN = "breaker_open"
    """The try was not made: a circuit breaker stood open."""


AGAINST_ENGINE = frozenset({Fault.UNREACHABLE, Fault.BROKE_OFF, Fault.LATE, Fault.FAILED})
"""Count for the engine's breaker. A client that leaves is no fault at all, one answer too large the request's."""
AGAINST_LINK = frozenset({Fault.STALLED, Fault.TRANSFER})
"""Count for the breaker of the link."""

_LOST_ON_THE_LINK = (
    "prefill engine at ",
    "not dialed again yet",
    "nothing heard for",
    "nothing is heard on",
    "not complete within its time",
    "not finished within its time",
    "that the manifest announced",
    "the manifest announced",
    "the peer ended",
)
"""In the words of the decode side's mover (``transport/loads``, ``transport/remote``, ``wire/load``). When a transfer's
time is over either side may be the first to say so; the prefill side's words are those of ``transport/saves``."""


def report_fault(reason: str) -> Fault:
    """The fault behind a report that is not ok; an unknown reason is held against nobody."""
    return Fault.TRANSFER if any(words in reason for words in _LOST_ON_THE_LINK) else Fault.DECLINED
