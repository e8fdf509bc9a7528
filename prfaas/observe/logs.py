"""Logs: one event a line, as JSON for machines or as text for people, in every process of ours alike.

A line of ours names its event by what it says without its values ("save failed" for "save %s failed: %s"), so that it
can be searched for. Values that are worth searching for are given as ``extra`` besides: ``transfer_id``, ``engine``,
``site`` ... ; the request's id comes by itself.

No line holds a prompt or a key. Our messages do not; exceptions' own texts may quote anything, so of all but ours and
the system's only type and place are written, and of asyncio's messages, which quote exceptions and arguments, what is
before those. Libraries log no finer than ``info``, whatever is wanted of us.
"""

import json
import logging
import re
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from contextvars import ContextVar
from functools import lru_cache
from traceback import format_tb
from typing import Any, TextIO

from prfaas.errors import PrfaasError
from prfaas.observe.settings import LogSettings

OURS = "prfaas"
BURST_LINES, LINES_S = 2_000, 1_000
"""Of one event and level: more than a process answers in a second, so that every answer has its line, and some hundred
kilobytes a second at most, however many are refused. What is left out is counted in the next line."""
MAX_EVENTS = 1_024
"""Events whose lines are counted, more than there are in the code."""
MAX_VALUE_CHARS = 1_000
"""Of a value and of a message: longer than any of ours. A line fits into what collectors take."""
MAX_CAUSES = 5
"""Exceptions shown of one chain or group."""

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""Of the request that the current task works for."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message", "left_out"}
_SHOWN_ERRORS = (PrfaasError, OSError)


def configure(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Have the whole process log so: to standard error, or to ``stream``. For processes that are ours."""
    root = logging.getLogger()
    for handler in root.handlers[:]:
        root.removeHandler(handler)
    root.addHandler(_handler(settings, stream or sys.stderr))
    root.setLevel(max(logging.INFO, _level(settings)))
    logging.getLogger(OURS).setLevel(_level(settings))


def configure_ours(settings: LogSettings) -> None:
    """Have our own lines logged so in a process that is another program's, unless that has a handler for all lines.

    To the file descriptor: vLLM puts the process's name before whatever is written to ``sys.stderr``.
    """
    ours = logging.getLogger(OURS)
    if logging.getLogger().handlers or ours.handlers:
        return
    stderr = open(2, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115  # the process's, to its end
    ours.addHandler(_handler(settings, stderr))
    ours.setLevel(_level(settings))


@lru_cache(MAX_EVENTS)
def event_of(template: str) -> str:
    """What a message says without its values, in lower case."""
    said = re.sub(r"%[-#0 +]*\d*(\.\d+)?[a-zA-Z]", " ", template).lower()
    return " ".join(re.findall(r"[a-z][a-z'-]*", said))[:80] or "message"


class RateBound(logging.Filter):
    """Lets so many lines of each event pass; threads that race for the last of them make the count a little wrong."""

    def __init__(
        self, burst: float = BURST_LINES, lines_s: float = LINES_S, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._burst, self._lines_s, self._now_s = float(burst), float(lines_s), now_s
        self._buckets: OrderedDict[tuple[str, int], list[float]] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        key, now_s = (f"{record.name} {record.msg}"[:200], record.levelno), self._now_s()
        bucket = self._buckets.setdefault(key, [self._burst, now_s, 0.0])
        if len(self._buckets) > MAX_EVENTS:
            self._buckets.popitem(last=False)
        left = min(self._burst, bucket[0] + (now_s - bucket[1]) * self._lines_s)
        bucket[1] = now_s
        if left < 1.0:
            bucket[0] = left
            bucket[2] += 1.0
            return False
        bucket[0] = left - 1.0
        if bucket[2]:
            record.left_out, bucket[2] = int(bucket[2]), 0.0
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, event, logger, message, then what else is known."""

    def __init__(self, settings: LogSettings) -> None:
        super().__init__()
        self._process = {"engine": settings.engine, "site": settings.site}

    def format(self, record: logging.LogRecord) -> str:
        is_ours = _is_ours(record)
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "event": event_of(str(record.msg)) if is_ours else "",
            "logger": record.name,
            "message": _message(record),
            "request_id": REQUEST_ID.get(),
            **self._process,
            **(_extras(record) if is_ours else {}),
            "left_out": getattr(record, "left_out", None),
            "exception": _exception(record),
        }
        return json.dumps({key: value for key, value in line.items() if value not in (None, "")}, default=str)


class TextFormatter(logging.Formatter):
    """Time, level, logger and message; then the request, where the message does not name it, and what went wrong."""

    def __init__(self, settings: LogSettings) -> None:
        super().__init__()
        self._process = f" [{settings.engine}]" if settings.engine else ""

    def format(self, record: logging.LogRecord) -> str:
        message, request_id = _message(record), REQUEST_ID.get()
        request = f" request={request_id}" if request_id and request_id not in message else ""
        left_out = getattr(record, "left_out", None)
        more = f" ({left_out} such lines were left out)" if left_out else ""
        line = f"{_time(record)} {record.levelname} {record.name}{self._process}: {message}{request}{more}"
        exception = _exception(record)
        return f"{line}\n{exception}" if exception else line


def _handler(settings: LogSettings, stream: TextIO) -> logging.Handler:
    handler = logging.StreamHandler(stream)
    is_text = settings.style == "text" or (settings.style == "auto" and stream.isatty())
    handler.setFormatter(TextFormatter(settings) if is_text else JsonFormatter(settings))
    handler.addFilter(RateBound())
    return handler


def _level(settings: LogSettings) -> int:
    return logging.getLevelNamesMapping()[settings.level.upper()]


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name == OURS or record.name.startswith(f"{OURS}.")


def _time(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


def _message(record: logging.LogRecord) -> str:
    message = record.getMessage()
    if record.name == "asyncio":  # "Exception in callback f('...')", and lines with the repr of a task or a future
        message = message.partition("\n")[0].partition("(")[0]
    return _plain(message)


def _plain(text: str) -> str:
    """On one line, and of bounded length."""
    text = text if len(text) <= MAX_VALUE_CHARS else f"{text[:MAX_VALUE_CHARS]}..."
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    """What was given as ``extra``."""
    given = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    return {key: _plain(value) if isinstance(value, str) else value for key, value in given.items()}


def _exception(record: logging.LogRecord) -> str:
    """Where an exception came from and through which others, without the texts that may quote what clients sent."""
    error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
    return "\n".join(part for each in _chain(error) for part in _shown(each)) if error else ""


def _chain(error: BaseException | None) -> list[BaseException]:
    """The first cause first, the parts of a group before the group."""
    found: list[BaseException] = []
    todo = [error]
    while todo and len(found) < MAX_CAUSES:
        if (each := todo.pop(0)) is None or each in found:
            continue
        found.insert(0, each)
        todo += each.exceptions if isinstance(each, BaseExceptionGroup) else ()
        todo.append(each.__cause__ or (None if each.__suppress_context__ else each.__context__))
    return found


def _shown(error: BaseException) -> list[str]:
    text = f": {_plain(str(error))}" if isinstance(error, _SHOWN_ERRORS) else ""
    return [*(line.rstrip() for line in format_tb(error.__traceback__)), f"{type(error).__name__}{text}"]
