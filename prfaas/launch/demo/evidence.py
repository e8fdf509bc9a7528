"""What the gateway says it did with a request."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from prfaas.errors import EngineUnavailable

POLL_S = 0.05
PATIENCE_S = 5.0
"""The record is complete a moment after the answer's last byte; a transfer's report may follow it."""


@dataclass(frozen=True)
class Evidence:
    """The gateway's record of one answered request.

    Attributes:
        prompt_tokens: as the gateway counted them; None when it could not.
        placement: "local" or "remote", as planned.
        outcome: "local", "remote" when the remote cache was really used, or what happened instead.
        cache_bytes: cache bytes that came from the remote site.
        early_bytes: of those, bytes that had arrived before the remote prefill ended.
    """

    prompt_tokens: int | None
    placement: str
    outcome: str
    cache_bytes: int
    early_bytes: int


async def fetch_evidence(
    http: aiohttp.ClientSession, gateway_url: str, request_id: str, patience_s: float = PATIENCE_S
) -> Evidence:
    """Read the record of ``request_id`` (header ``x-request-id``), waiting ``patience_s`` until it is complete.

    Raises:
        EngineUnavailable: the gateway does not answer, or knows no such request.
    """
    try:
        async with asyncio.timeout(patience_s):
            while True:
                async with http.get(f"{gateway_url}/prfaas/decisions") as response:
                    decisions = (await response.json())["decisions"]
                found = next((each for each in decisions if each["request_id"] == request_id), None)
                if found is not None and found["outcome"] != "running":
                    return read_evidence(found)
                await asyncio.sleep(POLL_S)
    except (TimeoutError, aiohttp.ClientError, KeyError) as error:
        problem = str(error) or type(error).__name__
        raise EngineUnavailable(f"the gateway has no complete record of {request_id}: {problem}") from None


def read_evidence(decision: Mapping[str, Any]) -> Evidence:
    """Pick what the demo shows from one entry of ``/prfaas/decisions``."""
    report = decision.get("report") or {}
    return Evidence(
        prompt_tokens=decision["prompt_tokens"],
        placement=str(decision["placement"]),
        outcome=str(decision["outcome"]),
        cache_bytes=int(report.get("cache_bytes", 0)),
        early_bytes=int(report.get("early_bytes", 0)),
    )
