"""Reading traces: what comes out of good lines, and what is said of bad ones."""

import itertools
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.errors import ConfigError
from prfaas.planner.trace import MAX_LINE_BYTES, parse_trace, read_trace


def line(**changes: Any) -> bytes:
    request = {"timestamp": 27482, "input_length": 1000, "output_length": 52, "hash_ids": [46, 47]} | changes
    return json.dumps(request).encode()


def test_a_line_is_a_request() -> None:
    """In tokens and milliseconds; unknown keys and empty lines are passed over."""
    first, second = parse_trace([line(kind="chat") + b"\n", b"\n", line(timestamp=27483.5, hash_ids=[])])
    assert (first.at_s, first.input_tokens, first.output_tokens, first.block_ids) == (27.482, 1000, 52, (46, 47))
    assert (second.at_ms, second.block_ids) == (27483.5, ())


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b"{", "truncated"),
        (b"[]", "Expected `object`"),
        (b"timestamp,input_length", "malformed"),
        (b'\xff{"timestamp": 1}', "malformed"),
        (b'{"timestamp": 1}', "missing required field `input_length`"),
        (line(input_length="7k"), r"Expected `int`, got `str` - at `\$.input_length`"),
        (line(input_length=0), r">= 1 - at `\$.input_length`"),
        (line(input_length=3_000_000), r"<= 2000000 - at `\$.input_length`"),
        (line(output_length=-1), r">= 0 - at `\$.output_length`"),
        (line(timestamp=-1), r">= 0\.0 - at `\$.timestamp`"),
        (line(timestamp=1), "timestamp 1 after 27482: sort the lines"),
        (line(hash_ids=[1, 2, 3]), "3 hash_ids for 1000 tokens: blocks of 512 tokens make 2"),
        (b" " * (MAX_LINE_BYTES + 1), "longer than 4 MiB"),
    ],
)
def test_a_bad_line_is_named(bad: bytes, message: str) -> None:
    """With its number, after the good ones before it have come out."""
    requests = parse_trace([line(), line(), bad], name="trace.jsonl")
    assert len(list(itertools.islice(requests, 2))) == 2
    with pytest.raises(ConfigError, match=rf"^trace\.jsonl:3: .*{message}"):
        next(requests)


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_but_our_error(noise: bytes) -> None:
    """Whatever a file holds."""
    problem = "trace:2: none"
    try:
        list(parse_trace([line(), noise]))
    except ConfigError as error:
        problem = str(error)
    assert problem.startswith("trace:2: ")


@pytest.mark.parametrize("content", [b"", b"\n\n  \n"])
def test_an_empty_trace_is_refused(content: bytes, tmp_path: Path) -> None:
    """There is nothing to plan for."""
    path = tmp_path / "trace.jsonl"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"trace\.jsonl: no request in \d lines"):
        list(read_trace(path))


def test_a_missing_trace_is_named(tmp_path: Path) -> None:
    """As is a folder."""
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            list(read_trace(path))


def test_a_file_is_read_as_it_is_long(tmp_path: Path) -> None:
    """Also without an end to its last line, and no further than the first wrong one."""
    path = tmp_path / "trace.jsonl"
    path.write_bytes(line() + b"\n" + line(input_length=513))
    assert [each.input_tokens for each in read_trace(path)] == [1000, 513]
    path.write_bytes(b"x" * (MAX_LINE_BYTES + 5) + b"\n" + line())
    with pytest.raises(ConfigError, match=":1: a line longer than 4 MiB"):
        next(read_trace(path))


def test_memory_does_not_grow_with_the_trace() -> None:
    """Twenty thousand lines take no more than two hundred."""

    def lines(count: int) -> Iterator[bytes]:
        return (line(timestamp=number) for number in range(count))

    def peak_bytes(count: int) -> int:
        tracemalloc.start()
        assert sum(1 for _ in parse_trace(lines(count))) == count
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak_bytes(200)
    assert peak_bytes(20_000) < peak_bytes(200) + 50_000


def test_reading_is_told_as_it_goes(tmp_path: Path) -> None:
    """All bytes of the file once, in pieces of a megabyte or so."""
    path = tmp_path / "trace.jsonl"
    path.write_bytes(b"".join(line(timestamp=number) + b"\n" for number in range(20_000)))
    told: list[int] = []
    assert sum(1 for _ in read_trace(path, on_bytes=told.append)) == 20_000
    assert sum(told) == path.stat().st_size
    assert max(told) < (1 << 20) + 1000
    assert len(told) >= path.stat().st_size >> 20
