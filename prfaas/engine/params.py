"""The part of ``kv_transfer_params`` that the gateway and the connector agree on.

The prefill engine gets ``{"prfaas": {"role": "prefill", "transfer_id", "secret", "timeout_s"}}``, the decode engine
the same with the role "decode" and one more key, ``remote``: the "host:port" of the prefill engine's mover. Both may
have ``traceparent`` and ``tracestate``, their place in a trace.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from prfaas.errors import RemoteProtocolError
from prfaas.tracing import TraceContext

KEY = "prfaas"
MAX_ID_CHARS = 128
"""Ids and secrets are uuids and 32-byte tokens; anything longer is not from a gateway."""
MAX_TIMEOUT_S = 3600.0
"""A transfer that has not ended within an hour never will; bounds what a caller can make an engine hold."""


@dataclass(frozen=True)
class TransferParams:
    """One side's view of a transfer, as it came with the request."""

    role: Literal["prefill", "decode"]
    transfer_id: str
    secret: str = field(repr=False)
    timeout_s: float
    remote: str = ""
    trace: TraceContext | None = None


def parse_transfer_params(kv_transfer_params: Mapping[str, Any] | None) -> TransferParams | None:
    """Return the transfer a request belongs to, or None when it has none.

    Raises:
        RemoteProtocolError: the parameters are there but malformed; the request is served locally.
    """
    raw = (kv_transfer_params or {}).get(KEY)
    if raw is None:
        return None
    if not isinstance(raw, Mapping):
        raise RemoteProtocolError(f"kv_transfer_params.{KEY} is a {type(raw).__name__}, not an object")
    role = raw.get("role")
    if role not in ("prefill", "decode"):
        raise RemoteProtocolError(f"kv_transfer_params.{KEY}.role is neither 'prefill' nor 'decode'")
    return TransferParams(
        role=role,
        transfer_id=_text(raw, "transfer_id"),
        secret=_text(raw, "secret"),
        timeout_s=_timeout_s(raw.get("timeout_s")),
        remote=_text(raw, "remote") if role == "decode" else "",
        trace=TraceContext.parse(raw.get("traceparent"), raw.get("tracestate")),
    )


def _text(raw: Mapping[str, Any], name: str) -> str:
    value = raw.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID_CHARS:
        raise RemoteProtocolError(f"kv_transfer_params.{KEY}.{name} must be text of 1 to {MAX_ID_CHARS} characters")
    return value


def _timeout_s(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MAX_TIMEOUT_S:
        raise RemoteProtocolError(f"kv_transfer_params.{KEY}.timeout_s must be between 0 and {MAX_TIMEOUT_S:g} seconds")
    return float(value)
