"""Whether the client is still there."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive

Result = TypeVar("Result")


async def client_left(receive: Receive) -> None:
    """Wait until the client has gone away; its body has been read before."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_left(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """Do the work as long as the client is there. When it leaves first, cancel the work and raise ClientDisconnect."""
    leaving = asyncio.create_task(client_left(receive))
    working = asyncio.create_task(work)
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
