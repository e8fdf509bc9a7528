"""What one message, connection or transfer may break: itself, never the mover, which serves all others."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


@contextmanager
def guarded(what: str) -> Iterator[None]:
    """Log an unforeseen error in the block with its traceback and go on behind it; ``what`` names what it ends."""
    try:
        yield
    except Exception:
        log.exception("a bug ended %s", what)
