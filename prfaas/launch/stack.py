"""A set of servers that start together and stop together.

    async with Stack(log_folder, progress) as stack:
        await stack.start(engines)          # all at once; returns when every one is ready
        await stack.start((gateway,))
        await stack.while_alive(work())     # ends early when a server does
    # here no process is left, whatever happened in the block

Servers started later stop first: the gateway lets its requests go before the engines end.
"""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp

from prfaas.launch.child import Child
from prfaas.launch.engine_command import Command
from prfaas.launch.progress import Progress
from prfaas.launch.readiness import describe_code, ready_or_failed, until_healthy, warm_up

T = TypeVar("T")

START_TIMEOUT_S = 900.0
"""vLLM takes 30-60 s for a small model on two free cores, four minutes on busy ones; large weights longer."""
STOP_GRACE_S = 15.0
"""vLLM ends within 2-5 s of SIGTERM when idle; a long prefill step in progress may take some seconds more."""
UNREADY_GRACE_S = 2.0
"""For a server that is still starting: it has nothing to finish, and vLLM does not heed SIGTERM then."""


@dataclass(frozen=True)
class Service:
    """A server to run.

    Attributes:
        name: unique in the stack; names its log file.
        command: how to start it.
        health_url: answers 200 once it can take requests.
        warm_up: ``(url, JSON body)`` of a first request sent before it counts as ready.
        start_timeout_s: bound for all of this.
    """

    name: str
    command: Command
    health_url: str
    warm_up: tuple[str, Mapping[str, Any]] | None = None
    start_timeout_s: float = START_TIMEOUT_S


class Stack:
    """Owner of child processes; see the module's example."""

    def __init__(self, log_folder: Path, progress: Progress, stop_grace_s: float = STOP_GRACE_S) -> None:
        self._log_folder = log_folder
        self._progress = progress
        self._stop_grace_s = stop_grace_s
        self._stages: list[list[Child]] = []
        self._ready: set[Child] = set()

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._stop()
        finally:
            await self._http.close()

    @property
    def children(self) -> list[Child]:
        """Every server started, in order."""
        return [child for stage in self._stages for child in stage]

    async def start(self, services: Sequence[Service]) -> None:
        """Start servers side by side and wait until all are ready.

        Raises:
            ProcessFailed: one ended early, was late or failed its first request. The others run on until the stack
                is left.
        """
        stage: list[Child] = []
        self._stages.append(stage)
        with self._progress.shown():
            for service in services:
                log = self._log_folder / f"{service.name}.log"
                stage.append(Child.start(service.name, service.command, log, self._stop_grace_s))
                self._progress.update(service.name, "starting")
            await _all_or_first_error(
                [self._until_ready(child, service) for child, service in zip(stage, services, strict=True)]
            )

    async def while_alive(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of ``work``, unless a server ends first, which none should.

        Raises:
            ProcessFailed: a server ended; ``work`` is cancelled then.
        """
        task = asyncio.ensure_future(work)
        watches = {asyncio.ensure_future(child.wait()): child for child in self.children}
        try:
            await asyncio.wait((task, *watches), return_when=asyncio.FIRST_COMPLETED)
            for watch, child in watches.items():
                if watch.done() and not task.done():
                    raise child.failure(f"ended with {describe_code(watch.result())}")
            return task.result()
        finally:
            for future in (task, *watches):
                future.cancel()
            await asyncio.gather(task, *watches, return_exceptions=True)

    async def _until_ready(self, child: Child, service: Service) -> None:
        ready = asyncio.ensure_future(self._first_answer(service))
        await ready_or_failed(child, ready, service.start_timeout_s)
        self._ready.add(child)
        self._progress.update(service.name, f"ready at {service.health_url.rpartition('/')[0]}", done=True)

    async def _first_answer(self, service: Service) -> None:
        await until_healthy(self._http, service.health_url)
        if service.warm_up is not None:
            self._progress.update(service.name, "warming up")
            await warm_up(self._http, *service.warm_up)

    async def _stop(self) -> None:
        """Stop stage by stage, the last one first. A cancellation turns what is left of this into a kill."""
        try:
            with self._progress.shown():
                for stage in reversed(self._stages):
                    await asyncio.gather(*(self._stop_child(child) for child in stage))
        finally:
            for child in self.children:
                child.kill()

    async def _stop_child(self, child: Child) -> None:
        self._progress.update(child.name, "stopping")
        await child.stop(self._stop_grace_s if child in self._ready else min(UNREADY_GRACE_S, self._stop_grace_s))
        self._progress.update(child.name, "stopped", done=True)


async def run_to_end(name: str, command: Command, log_folder: Path, progress: Progress) -> None:
    """Run a program until it ends by itself. Raises ProcessFailed when its exit code is not 0."""
    with progress.shown():
        child = Child.start(name, command, log_folder / f"{name}.log")
        try:
            progress.update(name, "running")
            if code := await child.wait():
                raise child.failure(f"ended with {describe_code(code)}")
            progress.update(name, "done", done=True)
        finally:
            child.kill()


async def _all_or_first_error(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run all side by side; the first error cancels the others and is raised by itself."""
    try:
        async with asyncio.TaskGroup() as group:
            for each in work:
                group.create_task(each)
    except ExceptionGroup as errors:
        # The others were cancelled for it: one cause is what the user needs.
        raise errors.exceptions[0] from None
