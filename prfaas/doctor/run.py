"""Running checks side by side, each with a deadline: one that hangs is a finding, not a hang."""

import asyncio
import threading
import traceback
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from prfaas.clock import Clock
from prfaas.doctor.finding import Checked, Finding, Level, finding

T = TypeVar("T")


@dataclass(frozen=True)
class Check:
    """One thing to look at.

    Attributes:
        name: a word for people and tools.
        deadline_s: after which it is given up.
        run: does it; what blocks comes ``off_loop``.
    """

    name: str
    deadline_s: float
    run: Callable[[], Awaitable[Checked]]


@dataclass(frozen=True)
class Outcome:
    """What became of a check, and how long it took."""

    name: str
    checked: Checked
    took_s: float

    @property
    def findings(self) -> list[Finding]:
        """Those of this check, the worst first."""
        order = list(Level)
        return sorted(self.checked.findings, key=lambda each: order.index(each.level))


async def run_checks(checks: Sequence[Check], clock: Clock) -> list[Outcome]:
    """All at once, in their order. Returns within the longest deadline whatever they do: what blocks in a thread is
    left behind, and does not keep the process from ending."""
    asyncio.get_running_loop().set_default_executor(_LeavingThreads())
    return list(await asyncio.gather(*(_run(check, clock) for check in checks)))


def off_loop(look: Callable[..., Checked], *args: object) -> Callable[[], Awaitable[Checked]]:
    """A check that blocks (disks may hang), as one that waits."""
    return lambda: asyncio.to_thread(look, *args)


async def _run(check: Check, clock: Clock) -> Outcome:
    began_s = clock.now_s()
    # Not wait_for: that waits for the end of what it cancels, and what hangs may not let itself be cancelled.
    task = asyncio.ensure_future(check.run())
    done, _ = await asyncio.wait({task}, timeout=check.deadline_s)
    if not done:
        task.cancel()
        what = f"not ended within {check.deadline_s:g} s"
        checked = Checked((finding("doctor.late", check.name, what, "look at a name server, a disk, a driver"),))
    else:
        checked = _result(check.name, task)
    return Outcome(check.name, checked, clock.now_s() - began_s)


def _result(name: str, task: "asyncio.Future[Checked]") -> Checked:
    try:
        return task.result()
    except Exception as error:  # one check must not take the others' findings along
        at = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__} in {Path(at.filename).name}, line {at.lineno}: {error}"
        return Checked((finding("doctor.failed", name, what, "report it, with this line"),))


class _LeavingThreads(ThreadPoolExecutor):
    """A thread for each call, which ends with the process at the latest: an executor's own are waited for at the exit,
    and a look-up of a name can take as long as its servers are silent. There are a few calls for each check."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> "Future[T]":
        """See ``Executor``."""
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()  # what runs cannot be cancelled, so its result always has a place

        def call() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # it is the caller's, who waits for the future
                future.set_exception(error)

        threading.Thread(target=call, daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Nothing is waited for."""
