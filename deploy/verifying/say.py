"""Progress of the verification."""

import sys
import time

_STARTED_S = time.monotonic()


def say(text: str) -> None:
    """One line on stderr, with the seconds since the start."""
    print(f"verify {time.monotonic() - _STARTED_S:6.1f} s  {text}", file=sys.stderr, flush=True)
