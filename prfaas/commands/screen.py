"""A view of a running gateway: once, line after line into a pipe, or drawn over on a terminal."""

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from prfaas.commands.output import can_redraw, console, print_json
from prfaas.errors import GatewayUnavailable

Look = Callable[[], Mapping[str, Any]]
"""Asks the gateway. Raises PrfaasError."""
Draw = Callable[[Mapping[str, Any], int], RenderableType]
"""Makes of that what is seen, for a terminal of so many columns."""
Pause = Callable[[float], bool]
"""Waits so many seconds; returns whether the person has had enough."""

HINT = "q ends"


@dataclass(frozen=True, slots=True)
class How:
    """How a view is wanted: once, or again and again, or as the terminal has it."""

    is_once: bool
    is_watch: bool
    interval_s: float
    as_json: bool


def show(look: Look, draw: Draw, how: How) -> None:
    """Show it, until it is enough. Raises PrfaasError when the gateway cannot be asked the first time."""
    screen = console()
    is_live = can_redraw(screen) and not how.as_json
    if how.is_once or not (how.is_watch or is_live):
        _tell(look(), draw, screen, how)
    elif is_live:
        _redraw(look, draw, screen, how.interval_s)
    else:
        while True:
            _tell(look(), draw, screen, how)
            time.sleep(how.interval_s)  # the gateway tells only who asks


def _tell(told: Mapping[str, Any], draw: Draw, screen: Console, how: How) -> None:
    if how.as_json:
        print_json(told, indent=None if how.is_watch else 2)
    else:
        screen.print(draw(told, screen.width))
        screen.file.flush()


def _redraw(look: Look, draw: Draw, screen: Console, interval_s: float) -> None:
    """Draw over it until q or Ctrl-C. A gateway that goes away is told below what it said last, and asked again."""
    told, problem = look(), ""
    with keys() as pause:
        try:
            with Live(console=screen, screen=True, auto_refresh=False) as live:
                while True:
                    below = Text(problem, "bold red") if problem else Text(HINT, "dim")
                    live.update(Group(draw(told, screen.width), below), refresh=True)
                    if pause(interval_s):
                        break
                    try:
                        told, problem = look(), ""
                    except GatewayUnavailable as error:
                        problem = str(error)
        except KeyboardInterrupt:
            pass  # that is how such a view ends
    screen.print(draw(told, screen.width))


@contextmanager
def keys() -> Iterator[Pause]:
    """Hear keys without Return while the block runs; where nobody types, only time passes."""
    if not sys.stdin.isatty():
        yield _sleep
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)

    def pause(seconds: float) -> bool:
        ready, _, _ = select.select([descriptor], [], [], seconds)
        typed = os.read(descriptor, 64) if ready else None
        return typed is not None and (not typed or b"q" in typed.lower())

    try:
        yield pause
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)  # without a terminal there is no key to wait for
    return False
