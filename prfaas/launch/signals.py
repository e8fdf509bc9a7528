"""Ctrl-C, SIGTERM and a closed terminal as an orderly cancellation."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_until_signal(main: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run ``main`` in a new event loop and return its exit code, or 128 + signal when one ended it.

    The first signal cancels ``main``, which then stops what it owns; every further one cancels again, which cuts the
    waiting short. No KeyboardInterrupt can appear in the middle of that.
    """
    return asyncio.run(_guarded(main))


async def _guarded(main: Callable[[], Coroutine[Any, Any, int]]) -> int:
    loop = asyncio.get_running_loop()
    task = loop.create_task(main())
    received: list[signal.Signals] = []

    def on_signal(number: signal.Signals) -> None:
        received.append(number)
        task.cancel()

    for number in STOP_SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup means to outlive the terminal
            loop.add_signal_handler(number, on_signal, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not received:
            raise
        return 128 + received[0]
