"""A long trace where somebody waits for it."""

import io
import sys
from pathlib import Path

import pytest

from prfaas.commands.planning import reading
from prfaas.errors import ConfigError
from tests.commands import plans


class Terminal(io.StringIO):
    """A stderr that somebody looks at."""

    def isatty(self) -> bool:
        return True


def test_a_long_trace_shows_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On stderr, with the file's name; the summary is the same."""
    path = tmp_path / "trace.jsonl"
    path.write_bytes(b"".join(plans.lines(400)))
    quiet = reading.summarise_file(path, 512, 100)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(reading, "SHOWN_BYTES", 0)
    monkeypatch.setenv("TERM", "xterm")
    assert reading.summarise_file(path, 512, 100) == quiet
    assert "trace.jsonl" in terminal.getvalue()


def test_nobody_is_shown_anything_where_nobody_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Into a file or a pipe goes no bar."""
    path = tmp_path / "trace.jsonl"
    path.write_bytes(b"".join(plans.lines(4)))
    monkeypatch.setattr(reading, "SHOWN_BYTES", 0)
    reading.summarise_file(path, 512, 100)
    assert capsys.readouterr().err == ""


def test_a_wrong_line_ends_the_bar_and_is_named(tmp_path: Path) -> None:
    """The error names file and line."""
    path = tmp_path / "trace.jsonl"
    path.write_bytes(b"".join(plans.lines(4)) + b"{}\n")
    with pytest.raises(ConfigError, match=r"trace\.jsonl:5: "):
        reading.summarise_file(path, 512, 100)
