"""Requests for ``benchmarks.selective``, the same ones for real engines and for the simulator; and their answers."""

import asyncio
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp

from prfaas.planner.simulator.request import Arrival
from prfaas.planner.simulator.spec import Promise

FIRST_ID, LAST_ID = 32, 126
"""Of the small model's tokens; each is a printable byte."""
PATIENCE_S = 120.0
"""An answer that takes longer is no good one; the benchmark has to end."""


@dataclass(frozen=True, slots=True)
class Mix:
    """Short and long prompts, each evenly between two lengths.

    Attributes:
        short, long: shortest and longest, in tokens.
        long_share: of the requests.
        output_tokens: of every answer.
    """

    short: tuple[int, int]
    long: tuple[int, int]
    long_share: float
    output_tokens: int

    def arrivals(self, rate: float, duration_s: float, seed: int) -> list[Arrival]:
        """Poisson arrivals; the same lengths in the same order for every rate of one seed."""
        moments, lengths = random.Random(f"moments {seed}"), random.Random(f"lengths {seed}")
        found, at_s = [], moments.expovariate(rate)
        while at_s < duration_s:
            low, high = self.long if lengths.random() < self.long_share else self.short
            found.append(Arrival(at_s, lengths.randint(low, high), self.output_tokens))
            at_s += moments.expovariate(rate)
        return found


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of a request, in seconds; infinite where there was no answer.

    Attributes:
        first_s: from sending to the first token.
        token_s: between two tokens, on average.
    """

    first_s: float
    token_s: float
    is_remote: bool

    def is_good(self, promise: Promise) -> bool:
        return self.first_s <= promise.first_token_s and self.token_s <= promise.token_s


async def offer(
    http: aiohttp.ClientSession, url: str, model: str, arrivals: Sequence[Arrival], run: str
) -> list[Answered]:
    """Send each request at its moment, however long the others take; returns when all have ended."""
    prompts = random.Random(run)
    bodies = [
        json.dumps(
            {
                "model": model,
                "prompt": prompts.choices(range(FIRST_ID, LAST_ID), k=arrival.prompt_tokens),
                "max_tokens": arrival.output_tokens,
                "ignore_eos": True,
                "temperature": 0,
                "stream": True,
                "cache_salt": f"{run} {at}",
            }
        ).encode()
        for at, arrival in enumerate(arrivals)
    ]
    began_s = time.monotonic()

    async def one(arrival: Arrival, body: bytes) -> Answered:
        await asyncio.sleep(max(0.0, began_s + arrival.at_s - time.monotonic()))
        return await _ask(http, url, body, arrival.output_tokens)

    return list(await asyncio.gather(*map(one, arrivals, bodies)))


async def _ask(http: aiohttp.ClientSession, url: str, body: bytes, tokens: int) -> Answered:
    sent_s = time.monotonic()
    first_s = last_s = float("inf")
    is_complete = is_remote = False
    try:
        async with (
            asyncio.timeout(PATIENCE_S),
            http.post(f"{url}/v1/completions", data=body, headers={"content-type": "application/json"}) as response,
        ):
            is_remote = response.headers.get("x-prfaas-placement") == "remote"
            async for line in response.content:
                if line.startswith(b"data: {") and not line.startswith(b'data: {"error"'):
                    last_s = time.monotonic()
                    first_s = min(first_s, last_s)
                is_complete |= line.startswith(b"data: [DONE]")
    except (aiohttp.ClientError, OSError):
        is_complete = False
    if not is_complete:
        return Answered(float("inf"), float("inf"), is_remote)
    return Answered(first_s - sent_s, (last_s - first_s) / max(1, tokens - 1), is_remote)
