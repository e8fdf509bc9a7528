import asyncio
import gc
import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from prfaas.clock import ManualClock
from prfaas.errors import TransferFailed
from prfaas.observe.logs import (
    MAX_VALUE_CHARS,
    REQUEST_ID,
    JsonFormatter,
    RateBound,
    TextFormatter,
    configure,
    event_of,
)
from prfaas.observe.settings import LogSettings

MOVER = LogSettings(engine="cloud-0", site="cloud")


@pytest.fixture
def request_id() -> Iterator[str]:
    token = REQUEST_ID.set("req-7")
    yield "req-7"
    REQUEST_ID.reset(token)


def record(message: str, *args: object, name: str = "prfaas.mover", error: Any = None, **extra: object) -> Any:
    made = logging.getLogger(name).makeRecord(name, logging.WARNING, "", 1, message, args, None, extra=extra or None)
    made.created, made.msecs = 1_790_000_000.0, 5.0
    if error is not None:
        made.exc_info = (type(error), error, error.__traceback__)
    return made


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    try:
        raise error from cause
    except Exception as caught:
        return caught


def told(of: logging.LogRecord) -> dict[str, Any]:
    line = JsonFormatter(MOVER).format(of)
    assert "\n" not in line
    found: dict[str, Any] = json.loads(line)
    return found


def test_json_line_has_what_is_known(request_id: str) -> None:
    """One object: when, how bad, what, who; the values that were given besides, and the request of the task."""
    assert told(record("save %s failed: %s", "t-1", "late", transfer_id="t-1")) == {
        "time": "2026-09-21T14:13:20.005Z",
        "level": "warning",
        "event": "save failed",
        "logger": "prfaas.mover",
        "message": "save t-1 failed: late",
        "request_id": request_id,
        "engine": "cloud-0",
        "site": "cloud",
        "transfer_id": "t-1",
    }


def test_text_line_is_for_people(request_id: str) -> None:
    """The same in words; the request is added where the message does not name it."""
    line = TextFormatter(MOVER).format(record("save %s failed: %s", "t-1", "late"))
    assert line == "2026-09-21T14:13:20.005Z WARNING prfaas.mover [cloud-0]: save t-1 failed: late request=req-7"
    named = TextFormatter(LogSettings()).format(record("%s chat local", request_id))
    assert named == "2026-09-21T14:13:20.005Z WARNING prfaas.mover: req-7 chat local"


@pytest.mark.parametrize(
    ("template", "event"),
    [
        ("save %s failed: %s", "save failed"),
        ("engine %s at %s is %s", "engine at is"),
        ("%d requests are cut off", "requests are cut off"),
        ("silent for %.3g s, %-5d of %r", "silent for s of"),
        ("%s", "message"),
    ],
)
def test_event_is_the_message_without_its_values(template: str, event: str) -> None:
    """So that lines can be searched for by what they say."""
    assert event_of(template) == event


def test_lines_of_others_are_told_without_what_they_give_besides() -> None:
    """Nobody knows what a library puts there; nor is its message an event of ours."""
    line = told(record("POST %s", "/v1", name="uvicorn.error", headers={"authorization": "Bearer planted"}))
    assert (line["message"], line["logger"]) == ("POST /v1", "uvicorn.error")
    assert not {"event", "headers"} & set(line)


@pytest.mark.parametrize("formatter", [JsonFormatter, TextFormatter])
def test_exceptions_tell_where_and_not_what_they_quote(formatter: Any) -> None:
    """Type and place of all of a chain or group; the text only of our own and of the system's."""
    quoting = raised(ValueError("planted"))
    ours = raised(TransferFailed("the link is down"), quoting)
    group = raised(ExceptionGroup("planted too", [ours, raised(OSError(28, "No space left on device"))]))
    line = formatter(MOVER).format(record("the controller failed", error=group))
    assert "planted" not in line
    for part in ("test_logs.py", "ValueError", "TransferFailed: the link is down", "No space left", "ExceptionGroup"):
        assert part in line


async def _fails(quoted: str) -> None:
    raise ValueError(quoted)


def _takes(argument: str) -> None:
    raise ValueError(argument)


@pytest.mark.parametrize("formatter", [JsonFormatter, TextFormatter])
@pytest.mark.parametrize("how", ["task", "callback"])
async def test_asyncio_does_not_quote(caplog: pytest.LogCaptureFixture, formatter: Any, how: str) -> None:
    """Its message on a task that nobody awaited has the exception's text, and on a callback its arguments."""
    loop = asyncio.get_running_loop()
    if how == "task":
        task = loop.create_task(_fails("planted"))
        await asyncio.wait([task])
        del task
        gc.collect()
    else:
        loop.call_soon(_takes, "planted")
        await asyncio.sleep(0)
    (made,) = (each for each in caplog.records if each.name == "asyncio")
    assert "planted" in made.getMessage()
    line = formatter(MOVER).format(made)
    assert "planted" not in line
    said = "Task exception was never retrieved" if how == "task" else "Exception in callback _takes"
    for part in (said, "ValueError", "test_logs.py"):
        assert part in line


async def test_asyncio_does_not_quote_what_it_lists(caplog: pytest.LogCaptureFixture) -> None:
    """Below its message it lists what it has at hand, protocols and transports with all that their reprs show."""
    asyncio.get_running_loop().call_exception_handler({"message": "Fatal error", "protocol": "planted"})
    (made,) = caplog.records
    assert "planted" in made.getMessage()
    assert told(made)["message"] == "Fatal error"


@pytest.mark.parametrize("formatter", [JsonFormatter, TextFormatter])
def test_a_value_cannot_make_a_second_line(formatter: Any) -> None:
    """What a client sent is escaped, and cut."""
    line = formatter(MOVER).format(record("%s rejected", "x\n2026 INFO prfaas: all is well\x1b[2J" + "y" * 5_000))
    assert len(line.splitlines()) == 1
    assert "\x1b" not in line
    assert len(line) < MAX_VALUE_CHARS + 300


def test_lines_of_one_event_are_bounded() -> None:
    """After a burst so many a second pass; what was left out is told by the next; other events and levels pass."""
    clock = ManualClock()
    bound = RateBound(burst=3, lines_s=2, now_s=clock.now_s)
    passed = [bound.filter(record("request %s", number)) for number in range(5)]
    assert passed == [True, True, True, False, False]
    assert bound.filter(record("another %s", 1))
    clock.advance(1.0)
    after = [record("request %s", number) for number in range(3)]
    assert [bound.filter(each) for each in after] == [True, True, False]
    assert told(after[0])["left_out"] == 2
    assert "left_out" not in told(after[1])
    assert "(2 such lines were left out)" in TextFormatter(MOVER).format(after[0])


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def logging_as_it_was() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("prfaas")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


@pytest.mark.usefixtures("logging_as_it_was")
@pytest.mark.parametrize(
    ("style", "stream", "is_json"),
    [
        ("auto", io.StringIO, True),
        ("auto", Terminal, False),
        ("json", Terminal, True),
        ("text", io.StringIO, False),
    ],
)
def test_style_is_chosen_by_who_reads(style: str, stream: type[io.StringIO], is_json: bool) -> None:
    """Text on a terminal, JSON elsewhere, unless the configuration says which; the process's one handler."""
    to = stream()
    configure(LogSettings(style=style), to)
    configure(LogSettings(style=style), to)
    logging.getLogger("prfaas.gateway").info("ready")
    (line,) = to.getvalue().splitlines()
    assert line.startswith("{") is is_json


@pytest.mark.usefixtures("logging_as_it_was")
def test_level_is_that_of_our_own_lines() -> None:
    """Libraries say nothing finer than info: nobody has looked at what they would tell."""
    to = io.StringIO()
    configure(LogSettings(level="debug"), to)
    for name in ("prfaas.gateway", "aiohttp.client"):
        logging.getLogger(name).debug("finest of %s", name)
    assert [json.loads(line)["logger"] for line in to.getvalue().splitlines()] == ["prfaas.gateway"]


def test_lines_in_another_program_are_ours_alone() -> None:
    """In vLLM's processes our lines have our form, past its own prefix; a handler of all lines has the last word."""
    program = """
import logging, sys
from prfaas.observe.logs import configure_ours
from prfaas.observe.settings import LogSettings
class Prefixed:
    def write(self, text): raise AssertionError(text)
    def flush(self): pass
if sys.argv[1] == "handled":
    logging.basicConfig(format="theirs %(message)s")
else:
    sys.stderr = Prefixed()
for _ in range(2):
    configure_ours(LogSettings(engine="edge-0"))
logging.getLogger("prfaas.engine").warning("ours")
"""
    lines = [
        subprocess.run(
            [sys.executable, "-c", program, how], capture_output=True, text=True, timeout=60, check=True
        ).stderr.splitlines()
        for how in ("alone", "handled")
    ]
    assert [json.loads(line)["engine"] for line in lines[0]] == ["edge-0"]
    assert lines[1] == ["theirs ours"]
