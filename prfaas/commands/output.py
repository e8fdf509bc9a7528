"""How commands speak: people on a terminal, pipes and programs."""

import json
import os
import sys
from typing import Any

from rich.console import Console

PIPE_WIDTH = 200
"""Rows of tables stay one line each where no terminal is to fit."""


def console(*, stderr: bool = False) -> Console:
    """For text. Colours as NO_COLOR and the terminal have it; COLUMNS counts also in a pipe."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def can_redraw(screen: Console) -> bool:
    """Whether what was drawn can be drawn over: a terminal that knows how, and no file that is told to be one."""
    return screen.file.isatty() and screen.is_terminal and not screen.is_dumb_terminal


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """At once, also into a pipe."""
    print(json.dumps(value, indent=indent, ensure_ascii=False), flush=True)


def tell(value: Any, text: str, *, as_json: bool) -> None:
    """The outcome of a command: JSON or a line."""
    if as_json:
        print_json(value)
    else:
        print(text)
