"""What became of the loads of this engine, for whoever asks with the transfer's secret."""

import asyncio
from dataclasses import dataclass, field

from prfaas.types import TransferReport
from prfaas.wire.doorway import secrets_equal

MAX_FINISHED = 1_024
"""Reports kept: the gateway asks while its request runs, so this covers minutes of a busy engine."""


@dataclass
class _Page:
    secret: str
    report: TransferReport | None = None
    written: asyncio.Event = field(default_factory=asyncio.Event)


class ReportBook:
    """One page per transfer, from its opening until ``MAX_FINISHED`` younger ones have finished."""

    def __init__(self) -> None:
        self._open: dict[str, _Page] = {}
        self._finished: dict[str, _Page] = {}
        self._opened = asyncio.Event()

    def open(self, transfer_id: str, secret: str) -> None:
        """A load begins."""
        self._finished.pop(transfer_id, None)
        self._open[transfer_id] = _Page(secret)
        self._opened.set()
        self._opened = asyncio.Event()

    def finish(self, report: TransferReport) -> None:
        """The last word on a load; later ones are ignored."""
        page = self._open.pop(report.transfer_id, None)
        if page is None:
            return
        page.report = report
        page.written.set()
        self._finished[report.transfer_id] = page
        while len(self._finished) > MAX_FINISHED:
            del self._finished[next(iter(self._finished))]

    async def wait(self, transfer_id: str, secret: str, timeout_s: float) -> TransferReport | None:
        """The report of a transfer, also of one that is opened only later; None when it did not come in time. A wrong
        secret looks like a transfer that never comes."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    opened = self._opened
                    page = self._open.get(transfer_id) or self._finished.get(transfer_id)
                    if page is not None and secrets_equal(page.secret, secret):
                        await page.written.wait()
                        return page.report
                    await opened.wait()
        except TimeoutError:
            return None
