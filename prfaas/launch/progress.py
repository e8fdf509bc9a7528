"""What a person sees while processes start: a live table on a terminal, one line per change elsewhere."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console, ConsoleRenderable, RichCast
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table

from prfaas.clock import Clock


class Progress(Protocol):
    """Hears how far each part has come."""

    def update(self, part: str, state: str, *, done: bool = False) -> None:
        """``part`` (an engine's name, "gateway", ...) is now in ``state``; ``done`` ends its spinner."""
        ...

    def shown(self) -> AbstractContextManager[None]:
        """Draw the parts updated in the block while it runs."""
        ...


class ConsoleProgress:
    """Progress on a console: seconds since its making, part, state."""

    def __init__(self, console: Console, clock: Clock) -> None:
        self._console = console
        self._clock = clock
        self._states: dict[str, tuple[str, bool, float]] = {}
        self._spinner = Spinner("dots")
        self._started_s = clock.now_s()

    def update(self, part: str, state: str, *, done: bool = False) -> None:
        elapsed_s = self._clock.now_s() - self._started_s
        self._states[part] = (state, done, elapsed_s)
        if not self._console.is_terminal:
            self._console.print(f"{elapsed_s:6.1f} s  {part}: {state}", markup=False, highlight=False)

    @contextmanager
    def shown(self) -> Iterator[None]:
        self._states.clear()
        if not self._console.is_terminal:
            yield
            return
        with Live(self, console=self._console, refresh_per_second=8):
            yield

    def __rich__(self) -> ConsoleRenderable | RichCast | str:
        table = Table.grid(padding=(0, 2))
        now_s = self._clock.now_s() - self._started_s
        for part, (state, done, at_s) in self._states.items():
            mark: Spinner | str = "[green]✓[/green]" if done else self._spinner
            table.add_row(mark, part, state, f"{at_s if done else now_s:.0f} s")
        return table
