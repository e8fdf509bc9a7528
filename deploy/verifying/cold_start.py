"""How fast the gateway starts in its container, and what it needs while nobody asks."""

import asyncio
import datetime
import time

import aiohttp

from deploy.verifying.docker import Compose

POLL_S = 0.02
SETTLE_S = 10.0
"""By then it has probed the engines and follows their caches."""


async def start_seconds(compose: Compose, gateway_url: str) -> float:
    """Stop the gateway and start it: seconds from the container's process to the first answer at /health."""
    await asyncio.to_thread(compose, "stop", "gateway")
    starting = asyncio.create_task(asyncio.to_thread(compose, "start", "gateway"))
    async with aiohttp.ClientSession() as http, asyncio.timeout(120):
        while not await _answers(http, gateway_url):  # noqa: ASYNC110 - another process has no event to wait for
            await asyncio.sleep(POLL_S)
    answered_s = time.time()
    await starting
    # Docker writes nanoseconds, which datetime does not read.
    started_at = compose.inspect("gateway")["State"]["StartedAt"].rstrip("Z")[:26]
    started = datetime.datetime.fromisoformat(started_at).replace(tzinfo=datetime.UTC)
    return round(answered_s - started.timestamp(), 2)


async def _answers(http: aiohttp.ClientSession, gateway_url: str) -> bool:
    try:
        async with http.get(f"{gateway_url}/health") as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


async def idle_mib(compose: Compose) -> float:
    """Memory of the gateway's container a while after its start."""
    await asyncio.sleep(SETTLE_S)
    return round(await asyncio.to_thread(compose.memory_mib, "gateway"), 1)
