"""The record of one request: its headers, its decision, its log line."""

import logging
from dataclasses import dataclass

from prfaas.errors import RequestRejected
from prfaas.fleet.failures import report_fault
from prfaas.gateway.api_request import ApiRequest, Endpoint
from prfaas.gateway.execution import Execution
from prfaas.gateway.payload import Transfer
from prfaas.gateway.prompt.tokens import PromptTokens
from prfaas.gateway.services import GatewayServices
from prfaas.observe.decisions import ANSWERED, Decision
from prfaas.routing.placement import Placement, Refusal
from prfaas.routing.snapshot import RequestFeatures
from prfaas.tracing import NO_SPAN, Span
from prfaas.types import TransferReport

log = logging.getLogger("prfaas.gateway")

MAX_REASON_CHARS = 500
"""A header value that every proxy lets through."""

_REFUSALS = {
    403: ("permission_error", "site_not_allowed"),
    429: ("rate_limit_error", "overloaded"),
    503: ("server_error", "engine_unavailable"),
}


@dataclass(frozen=True, slots=True)
class Job:
    """A request that has been placed.

    Attributes:
        started_s: when the request arrived, on the services' clock.
        placed_after_s: seconds from then to the placement, from which its prediction counts.
        tenant: whose it is, empty where everybody may use the gateway.
        waited_s: how long it waited for its turn.
        arrived_unix_s: when the request arrived, for people.
        read_after_s, tokenised_after_s: seconds from then to its whole body and to its tokens.
        span: what it is in a trace; whoever ends the request ends it.
    """

    request_id: str
    request: ApiRequest
    prompt: PromptTokens
    placement: Placement
    transfer: Transfer | None
    started_s: float
    placed_after_s: float = 0.0
    tenant: str = ""
    waited_s: float = 0.0
    arrived_unix_s: float = 0.0
    read_after_s: float = 0.0
    tokenised_after_s: float = 0.0
    span: Span = NO_SPAN

    def execution(self, services: GatewayServices) -> Execution:
        """The job on its engines, not yet started."""
        placed = (self.placement, self.transfer, self.started_s)
        return Execution(services, self.request, self.prompt.ids, *placed, self.span)

    def decision(self) -> Decision:
        """The decision as it was taken."""
        return Decision(
            request_id=self.request_id,
            endpoint=self.request.endpoint,
            placement=self.placement.kind,
            decode=self.placement.decode,
            prefill=self.placement.prefill,
            reasons=self.placement.reasons,
            prompt_tokens=self.prompt.count,
            transfer_id=self.transfer.transfer_id if self.transfer else None,
            placed_after_s=self.placed_after_s,
            uncached_tokens=self.placement.uncached_tokens,
            predicted_first_token_s=self.placement.first_token_s,
            candidates=self.placement.candidates,
            tenant=self.tenant,
            waited_s=self.waited_s,
            arrived_unix_s=self.arrived_unix_s,
            is_stream=self.request.is_stream,
            read_after_s=self.read_after_s,
            tokenised_after_s=self.tokenised_after_s,
        )


def refused(
    services: GatewayServices,
    request_id: str,
    endpoint: Endpoint,
    features: RequestFeatures,
    refusal: Refusal,
    *,
    placed_after_s: float,
    read_after_s: float,
    tokenised_after_s: float,
    tenant: str = "",
    waited_s: float = 0.0,
) -> RequestRejected:
    """Record that no engine gets the request, with its times and whose it is as in ``Job``. Returns the error for the
    client, which names no engine."""
    decision = Decision(
        request_id=request_id,
        endpoint=endpoint,
        placement="refused",
        decode="",
        prefill=None,
        reasons=(refusal.reason,),
        prompt_tokens=features.prompt_tokens,
        transfer_id=None,
        placed_after_s=placed_after_s,
        status=refusal.status,
        outcome="refused",
        total_s=placed_after_s,
        tenant=tenant,
        waited_s=waited_s,
        arrived_unix_s=services.unix_s() - placed_after_s,
        read_after_s=read_after_s,
        tokenised_after_s=tokenised_after_s,
    )
    services.decisions.put(decision)
    log_ended(decision)
    kind, code = _REFUSALS[refusal.status]
    return RequestRejected(refusal.status, refusal.message, kind=kind, code=code, retry_after_s=refusal.retry_after_s)


def outcome_of(decision: Decision, *, is_recomputed: bool, report: TransferReport | None) -> str:
    """What became of an answered request: ``local`` (also with a cache of an engine of the same site), ``remote``,
    ``recomputed`` or ``unknown``."""
    if decision.prefill is None:
        return "local"
    if is_recomputed or (report is not None and not report.ok):
        return "recomputed"
    return decision.placement if report is not None else "unknown"


def recompute_cause(decision: Decision) -> str:
    """The last fault of a prefill elsewhere, as a label: one of ``Fault``, or ``unknown``."""
    if decision.report is not None and not decision.report.ok:
        return report_fault(decision.report.reason)
    lost = [each.outcome for each in decision.tries if each.prefill is not None and each.outcome != ANSWERED]
    return lost[-1] if lost else "unknown"


def headers_of(decision: Decision, site: str) -> list[tuple[bytes, bytes]]:
    """The ``x-prfaas-*`` headers: the decision, and of the transfer what is known by now.

    Site and engine are where the prefill was placed, also when the outcome says that the decode engine recomputed.
    """
    values: dict[str, object] = {
        "x-request-id": decision.request_id,
        "x-prfaas-placement": decision.placement,
        "x-prfaas-site": site,
        "x-prfaas-engine": decision.prefill or decision.decode,
        "x-prfaas-reason": "; ".join(filter(None, (*decision.reasons, decision.detail)))[:MAX_REASON_CHARS],
        "x-prfaas-transfer-id": decision.transfer_id,
        "x-prfaas-prompt-tokens": decision.prompt_tokens,
    }
    if decision.outcome in ("remote", "recomputed"):
        values["x-prfaas-outcome"] = decision.outcome
    if decision.report is not None:
        values["x-prfaas-remote-tokens"] = decision.report.tokens if decision.placement == "remote" else 0
        values["x-prfaas-cache-bytes"] = decision.report.cache_bytes
        values["x-prfaas-early-bytes"] = decision.report.early_bytes
    return [(name.encode(), _plain(value)) for name, value in values.items() if value is not None]


def log_ended(decision: Decision) -> None:
    """One line per request: ids, placement, reasons, status, tokens, seconds; never the prompt. The event is
    ``request ended``, with the same as fields; of a refusal, whose end is told by who answers it, it is another."""
    event = "placement refused" if decision.outcome == "refused" else "request ended"
    report = decision.report
    level = logging.WARNING if decision.outcome in ("recomputed", "unknown", "error") else logging.INFO
    reason = "; ".join(filter(None, (*decision.reasons, decision.detail, report.reason if report else "")))
    log.log(
        level,
        "%s %s %s status=%s outcome=%s decode=%s prefill=%s transfer=%s tokens=%s remote_tokens=%s bytes=%s "
        "first_s=%s predicted_s=%s total_s=%s tenant=%s waited_s=%s reason=%s",
        decision.request_id,
        decision.endpoint,
        decision.placement,
        decision.status,
        decision.outcome,
        decision.decode or "-",
        decision.prefill or "-",
        decision.transfer_id or "-",
        decision.prompt_tokens,
        report.tokens if report else "-",
        report.cache_bytes if report else "-",
        _seconds(decision.first_output_s),
        _seconds(decision.predicted_first_token_s),
        _seconds(decision.total_s),
        decision.tenant or "-",
        _seconds(decision.waited_s),
        reason,
        extra=_fields(decision) | {"event": event, "reason": reason},
    )


def note_ended(span: Span, decision: Decision) -> None:
    """The same in the request's span, which ends."""
    if decision.outcome == "error":
        span.fail(decision.detail or "error")
    span.note(**{**_fields(decision), "request_id": decision.request_id})
    span.end()


def _fields(decision: Decision) -> dict[str, str | int | float | None]:
    return {
        "request_id": decision.request_id,
        "endpoint": decision.endpoint,
        "placement": decision.placement,
        "status": decision.status,
        "outcome": decision.outcome,
        "decode": decision.decode or None,
        "prefill": decision.prefill,
        "transfer_id": decision.transfer_id,
        "prompt_tokens": decision.prompt_tokens,
        "remote_tokens": decision.report.tokens if decision.report else None,
        "tries": len(decision.tries),
        "first_output_s": decision.first_output_s,
        "total_s": decision.total_s,
        "waited_s": decision.waited_s,
        "tenant": decision.tenant or None,
    }


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _plain(value: object) -> bytes:
    """A header value: printable ASCII only, so that no reason can break the head of an answer."""
    text = str(value)
    if not (text.isascii() and text.isprintable()):
        text = "".join(char if " " <= char <= "~" else " " for char in text)
    return text.encode()
