"""Following something that the gateway does until it is done: a spinner on a terminal, a line a change elsewhere."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

from prfaas.commands.output import can_redraw, console
from prfaas.errors import PrfaasError

POLL_S = 0.25


@dataclass(frozen=True, slots=True)
class Now:
    """How it is: in words, and whether it is over."""

    words: str
    is_over: bool = False


def follow(look: Callable[[], Now], timeout_s: float, *, is_quiet: bool = False) -> Now:
    """Look until it is over, and say on stderr what is new. Returns the last look.

    Raises:
        PrfaasError: it has not ended in time; how it was then.
    """
    screen, ends_s = console(stderr=True), time.monotonic() + timeout_s
    with screen.status("", spinner="dots") if can_redraw(screen) and not is_quiet else nullcontext() as status:
        said = ""
        while True:
            now = look()
            if now.is_over:
                return now
            if time.monotonic() >= ends_s:
                raise PrfaasError(f"not within {timeout_s:g} s: {now.words}")
            if now.words != said and not is_quiet:
                said = now.words
                if status is None:
                    screen.print(said)
                else:
                    status.update(said)
            time.sleep(POLL_S)  # the gateway tells only who asks
