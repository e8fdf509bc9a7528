"""An exception in a hook would kill the engine: what goes wrong costs one remote prefill, never a request."""

import functools
import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


def guarded(fallback: Callable[[], R]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Turn whatever a hook raises into a log line and ``fallback()``, vLLM's "nothing to do"."""

    def decorate(hook: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(hook)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return hook(*args, **kwargs)
            except Exception:  # vLLM dies of one in a hook; the engine matters more than one remote prefill
                logger.exception("connector hook %s failed; the engine goes on without it", hook.__name__)
                return fallback()

        return call

    return decorate


def attempt(act: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> bool:
    """Do one of several things that must not fail together; False, and a log line, when it raises."""
    try:
        act(*args, **kwargs)
    except Exception:  # whatever it is: the others come only once
        logger.exception("%s failed; the engine goes on without it", getattr(act, "__qualname__", act))
        return False
    return True
