"""Bytes of caches: what transfers say, beside what the model's layers say."""

import asyncio
import secrets
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from prfaas.errors import PrfaasError, TransferFailed
from prfaas.measure.engine import Engine
from prfaas.measure.progress import Steps
from prfaas.measure.prompts import Prompts
from prfaas.planner.layers import ModelCache
from prfaas.types import TransferReport

PART = "cache"
TOLERANCE = 0.05
"""Between what is measured and what is computed; what both leave out (a block's padding) is less."""
TIMEOUT_S = 600.0
"""Of one transfer: as long as the slowest prefill."""
REPORT_S = 5.0
"""The report is written before the answer is."""
TRIES, PAUSE_S = 3, 1.0
"""Engines that have just started dial each other some seconds later."""


class Source(Protocol):
    """Has a cache sent, and hears how large it was."""

    async def cache_bytes(self, model: str, prompt: Sequence[int], salt: str) -> int:
        """On the wire, of a prompt that nobody has cached. Raises TransferFailed when none was sent."""
        ...


class Reports(Protocol):
    """Knows what became of transfers (``transport.report.ReportClient``)."""

    async def wait(self, target: str, transfer_id: str, secret: str, timeout_s: float) -> TransferReport: ...


@dataclass(frozen=True, slots=True)
class Pair:
    """A prefill engine and a decode engine that dials it.

    Attributes:
        remote: the prefill engine's endpoint for transfers.
        target: the decode engine's, which is asked for reports.
    """

    prefill: Engine
    decode: Engine
    remote: str
    target: str
    reports: Reports

    async def cache_bytes(self, model: str, prompt: Sequence[int], salt: str) -> int:
        """As ``Source`` says: both engines are asked at the same moment, as the gateway does."""
        name, secret = uuid.uuid4().hex, secrets.token_urlsafe(16)
        shared = {"transfer_id": name, "secret": secret, "timeout_s": TIMEOUT_S}
        doing = f"while the cache of {len(prompt)} tokens was transferred"
        sides = (
            (self.prefill, {"role": "prefill", **shared}),
            (self.decode, {"role": "decode", "remote": self.remote, **shared}),
        )
        async with asyncio.TaskGroup() as group:
            for engine, params in sides:
                body = {**_body(model, prompt, salt), "kv_transfer_params": {"prfaas": params}}
                group.create_task(engine.complete(body, doing))
        report = await self.reports.wait(self.target, name, secret, REPORT_S)
        if not report.ok:
            raise TransferFailed(report.reason)
        return report.cache_bytes


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that sends long prompts away, and tells in headers what crossed."""

    gateway: Engine

    async def cache_bytes(self, model: str, prompt: Sequence[int], salt: str) -> int:
        """As ``Source`` says."""
        doing = f"while a prompt of {len(prompt)} tokens was answered"
        _, headers = await self.gateway.complete(_body(model, prompt, salt), doing)
        outcome = headers.get("x-prfaas-outcome")
        if outcome != "remote" or "x-prfaas-cache-bytes" not in headers:
            reason = headers.get("x-prfaas-reason", "no x-prfaas headers")
            raise TransferFailed(f"the gateway had it prefilled {outcome or 'locally'}: {reason}")
        return int(headers["x-prfaas-cache-bytes"])


def _body(model: str, prompt: Sequence[int], salt: str) -> dict[str, object]:
    return {"model": model, "prompt": list(prompt), "max_tokens": 1, "temperature": 0, "cache_salt": salt}


async def measure_cache(
    source: Source, model: str, lengths: Sequence[int], prompts: Prompts, steps: Steps
) -> tuple[dict[int, int], list[str]]:
    """Bytes on the wire by prompt length, and why some are missing.

    Raises:
        ConfigError, EngineUnavailable: an engine refuses, or went away.
    """
    steps.part(PART, sum(lengths))
    found: dict[int, int] = {}
    missing: list[str] = []
    for length in sorted(lengths):
        steps.now(PART, f"{length} tokens")
        try:
            found[length] = await _sent(source, model, length, prompts)
        except TransferFailed as error:
            missing.append(f"cache: of {length} tokens nothing was measured: {error}")
        except ExceptionGroup as several:  # of a pair's two requests
            raise next((e for e in several.exceptions if isinstance(e, PrfaasError)), several) from None
        steps.done(PART, length, f"{length} tokens {found.get(length, 0):,} bytes")
    return found, missing


async def _sent(source: Source, model: str, length: int, prompts: Prompts) -> int:
    for left in reversed(range(TRIES)):
        index = f"cache {length} {left}"
        try:
            return await source.cache_bytes(model, prompts.ids(length, index), prompts.salt(index))
        except TransferFailed:
            if not left:
                raise
            await asyncio.sleep(PAUSE_S)
    raise AssertionError("the last try returns or raises")


def disagreements(measured: Mapping[int, int], computed: ModelCache | None, block_tokens: int) -> tuple[str, ...]:
    """Where the wire and the layers differ by more than they may, in words."""
    found = []
    for length, on_wire in sorted(measured.items()):
        expected = computed.prompt_bytes(length, block_tokens=block_tokens) if computed else on_wire
        if abs(on_wire / expected - 1) > TOLERANCE:
            found.append(
                f"cache: {length} tokens measured {on_wire:,} bytes, computed {expected:,} from the model's layers "
                f"({on_wire / expected - 1:+.1%}): one of them is wrong; the profile has the measured ones"
            )
    return tuple(found)
