"""What a person sees while an engine is measured: a bar for each part, what it measures now, and the time left."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Steps(Protocol):
    """Hears how far each part of a measurement has come."""

    def part(self, name: str, work: float) -> None:
        """There is a part with so much to do, in a unit of its own."""
        ...

    def now(self, name: str, what: str) -> None:
        """It measures this now."""
        ...

    def done(self, name: str, work: float, result: str = "") -> None:
        """So much of it has been done, with this result."""
        ...


class Silent:
    """Nobody looks."""

    def part(self, name: str, work: float) -> None:
        pass

    def now(self, name: str, what: str) -> None:
        pass

    def done(self, name: str, work: float, result: str = "") -> None:
        pass


class Bars:
    """Bars on a terminal; elsewhere a line for each result."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._parts: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description:<8}"),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[what]}"),
            console=console,
            disable=not console.is_terminal,
        )

    def part(self, name: str, work: float) -> None:
        self._parts[name] = self._progress.add_task(name, total=work, what="")

    def now(self, name: str, what: str) -> None:
        self._progress.update(self._parts[name], what=what)

    def done(self, name: str, work: float, result: str = "") -> None:
        self._progress.update(self._parts[name], advance=work)
        if result and not self._console.is_terminal:
            self._console.print(f"{name}: {result}", markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Draw the bars while the block runs."""
        with self._progress:
            yield
