"""Which fault an engine's error is."""

from prfaas.errors import EngineUnavailable
from prfaas.fleet.failures import Fault
from prfaas.gateway.answer import FULL_STATUSES, EngineFailed
from prfaas.gateway.upstream import AnswerTooLarge, EngineLate, EngineUnreachable

NOT_SERVED = 501
"""The engine has no such API: that is how it was started, not a failure."""


class TryFailed(Exception):
    """One try of a request came to nothing, and no output has left.

    Attributes:
        stage: ``prefill``, ``transfer`` or ``decode``.
        fault: what happened.
        error: what the client is told when there is no other way.
    """

    def __init__(self, stage: str, fault: Fault, error: EngineUnavailable) -> None:
        super().__init__(str(error))
        self.stage = stage
        self.fault = fault
        self.error = error


def fault_of(error: EngineUnavailable) -> Fault:
    """The fault behind an error of the client to the engines."""
    match error:
        case EngineFailed():
            return fault_of_status(error.status)
        case EngineUnreachable():
            return Fault.UNREACHABLE
        case EngineLate():
            return Fault.LATE
        case AnswerTooLarge():
            return Fault.TOO_LARGE
    return Fault.BROKE_OFF


def fault_of_status(status: int) -> Fault:
    """The fault behind a status from 400 on."""
    if status in FULL_STATUSES:
        return Fault.FULL
    return Fault.FAILED if status >= 500 and status != NOT_SERVED else Fault.REFUSED
