"""When a request's first token is wanted: as configured, or sooner if the client says so."""

from starlette.datastructures import Headers

from prfaas.errors import RequestRejected

OBJECTIVE_HEADER = "x-prfaas-first-token-slo-ms"
MAX_OBJECTIVE_MS = 86_400_000
"""A day, as for all times in the configuration."""


def soonest(*objectives_s: float | None) -> float | None:
    """The tightest of several objectives, None when there is none: what was promised to one is promised."""
    return min((each for each in objectives_s if each is not None), default=None)


def given_objective_s(headers: Headers) -> float | None:
    """The objective that the client gives, None when it gives none. Raises RequestRejected (400)."""
    given = headers.getlist(OBJECTIVE_HEADER)
    if not given:
        return None
    text = given[0]
    is_number = len(given) == 1 and text.isascii() and text.isdigit() and len(text) <= len(str(MAX_OBJECTIVE_MS))
    if not is_number or not 1 <= int(text) <= MAX_OBJECTIVE_MS:
        message = f"The header {OBJECTIVE_HEADER} takes one whole number of milliseconds from 1 to {MAX_OBJECTIVE_MS}."
        raise RequestRejected(400, message, param=OBJECTIVE_HEADER, code="invalid_value")
    return int(text) / 1000
