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
SLACK_S = 0.5
"""For requests that are sent late, and answers that are read late."""
REFUSALS = (429, 503)
"""With which the gateway turns requests away; 503 also when no engine answers, which its code tells."""
UNAVAILABLE = b'"engine_unavailable"'


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
        is_lost: nobody answered, or the answer broke off; a refusal is an answer, and so is one that took too long.
    """

    first_s: float
    token_s: float
    is_remote: bool
    is_lost: bool = False

    def is_good(self, promise: Promise) -> bool:
        return self.first_s <= promise.first_token_s and self.token_s <= promise.token_s


async def offer(
    http: aiohttp.ClientSession, url: str, model: str, arrivals: Sequence[Arrival], run: str, promise: Promise
) -> list[Answered]:
    """Send each request at its moment, however long the others take.

    Returns when all have ended, or none that is left can be good any more: those are hung up on, which changes nothing
    of what is counted and saves the time of emptying queues.
    """
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
    ends_s = asyncio.get_running_loop().time() + longest_s(arrivals, promise) + SLACK_S

    async def one(arrival: Arrival, body: bytes) -> Answered:
        await asyncio.sleep(max(0.0, began_s + arrival.at_s - time.monotonic()))
        return await _ask(http, url, body, arrival.output_tokens, ends_s)

    return list(await asyncio.gather(*map(one, arrivals, bodies)))


def longest_s(arrivals: Sequence[Arrival], promise: Promise) -> float:
    """From the first moment until the last answer that is good has ended."""
    return max(
        (each.at_s + promise.first_token_s + each.output_tokens * promise.token_s for each in arrivals), default=0.0
    )


async def _ask(http: aiohttp.ClientSession, url: str, body: bytes, tokens: int, ends_s: float) -> Answered:
    sent_s = time.monotonic()
    first_s = last_s = float("inf")
    is_complete = is_remote = is_refused = is_late = False
    try:
        async with (
            asyncio.timeout_at(ends_s),
            http.post(f"{url}/v1/completions", data=body, headers={"content-type": "application/json"}) as response,
        ):
            is_remote = response.headers.get("x-prfaas-placement") == "remote"
            is_refused = response.status in REFUSALS
            async for line in response.content:
                if line.startswith(b"data: {") and not line.startswith(b'data: {"error"'):
                    last_s = time.monotonic()
                    first_s = min(first_s, last_s)
                is_refused &= UNAVAILABLE not in line.replace(b" ", b"")
                is_complete |= line.startswith(b"data: [DONE]")
    except TimeoutError:
        is_complete, is_late = False, True
    except (aiohttp.ClientError, OSError):
        is_complete = False
    if not is_complete or first_s == float("inf"):
        return Answered(float("inf"), float("inf"), is_remote, is_lost=not (is_refused or is_late))
    return Answered(first_s - sent_s, (last_s - first_s) / max(1, tokens - 1), is_remote)
