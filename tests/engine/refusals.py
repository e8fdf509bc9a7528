"""Refusals on order, in the engine's own API server: a middleware for vLLM's ``--middleware``.

The folder in ``PRFAAS_TEST_REFUSALS`` holds orders: files that are named after a group of engines and whose text is a
status. An engine of the group takes the order away and answers its next request so.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

FOLDER, GROUP = "PRFAAS_TEST_REFUSALS", "PRFAAS_TEST_GROUP"


class Refusals:
    """Answers for the engine when there is an order."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._folder, self._group = Path(os.environ[FOLDER]), os.environ[GROUP]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_request = scope["type"] == "http" and scope["path"] == "/v1/completions"
        status = self._take() if is_request else None
        if status is None:
            await self._app(scope, receive, send)
            return
        while (await receive()).get("more_body"):
            pass  # a connection that is closed on an unread body would look like one that broke off
        await JSONResponse({"error": {"message": "as ordered"}}, status)(scope, receive, send)

    def _take(self) -> int | None:
        """The status of an order that no other engine of the group has taken."""
        for order in self._folder.glob(f"{self._group}-*"):
            try:
                status = int(order.read_text())
                order.unlink()
            except FileNotFoundError:
                continue
            return status
        return None


def order_refusals(folder: Path, group: str, statuses: Iterable[int]) -> None:
    """Let engines of the group refuse their next requests."""
    for number, status in enumerate(statuses):
        whole = folder / f"new-{group}-{number}"
        whole.write_text(str(status))
        whole.rename(folder / f"{group}-{number}")


def withdraw(folder: Path) -> int:
    """Take back all orders; returns how many there were."""
    orders = list(folder.iterdir())
    for order in orders:
        order.unlink()
    return len(orders)
