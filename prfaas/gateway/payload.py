"""The bodies that go to the engines. Pure: the client's own fields are passed on as they are, unknown ones included."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from prfaas.gateway.api_request import ApiRequest
from prfaas.gateway.prompt.token_ids import TokenIds
from prfaas.tracing import TraceContext

PREFILL_PATH = "/v1/completions"


@dataclass(frozen=True, slots=True)
class Transfer:
    """One planned cache transfer: who may fetch it, from where, and for how long.

    Attributes:
        transfer_id: names the transfer at both engines.
        secret: whoever knows it may read the cache; never logged, never sent to the client.
        remote: the prefill engine's endpoint for cache transfers, as "host:port".
        timeout_s: after this the decode engine gives up waiting and recomputes.
    """

    transfer_id: str
    secret: str
    remote: str
    timeout_s: float


def decode_body(
    request: ApiRequest, ids: TokenIds | None, transfer: Transfer | None, trace: TraceContext | None = None
) -> bytes:
    """The client's request for the decode engine, with the token ids where they are known.

    Chat needs its messages besides the ids (tool and reasoning parsers look at them); a completion's prompt is
    replaced by its ids. ``trace`` is what the transfer belongs to.
    """
    body: dict[str, Any] = {**request.body}
    params: dict[str, Any] = {}
    if ids is not None and request.endpoint == "chat":
        params["prompt_token_ids"] = ids.json
    elif ids is not None:
        body["prompt"] = ids.json
    if transfer is not None:
        params["prfaas"] = {**_shared(transfer, "decode", trace), "remote": transfer.remote}
    if params:
        body["kv_transfer_params"] = params
    return msgspec.json.encode(body)


def prefill_body(request: ApiRequest, ids: TokenIds, transfer: Transfer, trace: TraceContext | None = None) -> bytes:
    """The request for the prefill engine: the prompt and nothing of what the client wants done with it."""
    body = {
        "model": request.body["model"],
        "prompt": ids.json,
        "max_tokens": 1,
        "temperature": 0,
        "stream": False,
        "kv_transfer_params": {"prfaas": _shared(transfer, "prefill", trace)},
    }
    if request.cache_salt is not None:
        body["cache_salt"] = request.cache_salt
    return msgspec.json.encode(body)


def _shared(transfer: Transfer, role: str, trace: TraceContext | None) -> Mapping[str, Any]:
    return {
        "role": role,
        "transfer_id": transfer.transfer_id,
        "secret": transfer.secret,
        "timeout_s": transfer.timeout_s,
        **(trace.fields() if trace else {}),
    }
