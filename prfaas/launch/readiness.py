"""Asking a starting server whether it is ready, and giving an engine its slow first request."""

import asyncio
import itertools
from collections.abc import Mapping
from typing import Any

import aiohttp

from prfaas.launch.child import Child

POLL_S = 0.25
"""Between two questions: short beside a start of 20-60 s, and cheap for a starting server."""
PROBE_TIMEOUT_S = 5.0
"""A health answer takes milliseconds; a machine whose cores are all importing torch may need seconds."""
ERROR_BYTES = 300
"""Of an error body in a message: enough for the reason, too little to flood a terminal."""


async def until_healthy(http: aiohttp.ClientSession, url: str) -> None:
    """Ask ``url`` until it answers 200. The caller bounds the time."""
    while not await _answers(http, url):  # noqa: ASYNC110 - another process has no event to wait for
        await asyncio.sleep(POLL_S)


async def warm_up(http: aiohttp.ClientSession, url: str, body: Mapping[str, Any]) -> Mapping[str, str]:
    """Send one request and read its answer, so that no user meets the first one (2-4 s on a CPU).

    Returns the headers of the answer.

    Raises:
        RuntimeError: the server answered with an error, which its status and message describe.
        aiohttp.ClientError: no answer at all.
    """
    async with http.post(url, json=body) as response:
        text = await response.text()
        if response.status != 200:
            raise RuntimeError(f"answers a first request with status {response.status}: {text[:ERROR_BYTES]}")
        return response.headers


async def until_remote(http: aiohttp.ClientSession, url: str, body: Mapping[str, Any]) -> None:
    """Send ``body``'s prompt, each time with another beginning, until one was really prefilled in another site.

    Engines that start together find each other some seconds after they are healthy. The caller bounds the time.

    Raises:
        RuntimeError, aiohttp.ClientError: as ``warm_up``.
    """
    for attempt in itertools.count():
        headers = await warm_up(http, url, {**body, "prompt": f"{attempt} {body['prompt']}"})
        if headers.get("x-prfaas-outcome") == "remote":
            return
        await asyncio.sleep(POLL_S)


async def ready_or_failed(child: Child, ready: asyncio.Future[None], timeout_s: float) -> None:
    """Wait until ``ready`` is done, but no longer than the child lives nor than ``timeout_s``.

    Raises:
        ProcessFailed: it exited, was late, or its first request failed; with the end of its log.
    """
    exited = asyncio.ensure_future(child.wait())
    try:
        done, _ = await asyncio.wait((exited, ready), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if exited in done:
            raise child.failure(f"ended with {describe_code(exited.result())} before it was ready")
        if not done:
            raise child.failure(f"was not ready within {timeout_s:g} s")
        try:
            ready.result()
        except (RuntimeError, aiohttp.ClientError, TimeoutError) as error:
            raise child.failure(str(error) or type(error).__name__) from None
    finally:
        exited.cancel()
        ready.cancel()


def describe_code(code: int) -> str:
    """An exit code in words; negative or above 128 is a signal."""
    number = -code if code < 0 else code - 128
    return f"signal {number}" if number > 0 else f"exit code {code}"


async def _answers(http: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with http.get(url, timeout=aiohttp.ClientTimeout(total=PROBE_TIMEOUT_S)) as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False
