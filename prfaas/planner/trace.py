"""Reading request traces in Mooncake's format: a JSON object a line, no text of any prompt.

    {"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47, 2353, 2354]}

Timestamps are in milliseconds and never fall; ``hash_ids`` has an id for each started block of the prompt, and equal
ids are equal content with equal content before it. Lines are read one at a time: a trace may be longer than the memory.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated

import msgspec

from prfaas.errors import ConfigError

BLOCK_TOKENS = 512
"""Of Mooncake's traces."""
MAX_PROMPT_TOKENS = 2_000_000
"""Twice the longest context that is served; counts by length stay within a hundred MB."""
MAX_LINE_BYTES = 4 << 20
"""Two million tokens in blocks of 16, ten digits an id, need a third of it."""

TOLD_BYTES = 1 << 20
"""Thousands of lines: telling of progress costs nothing beside reading them."""


class TraceRequest(
    msgspec.Struct,
    frozen=True,
    gc=False,
    rename={
        "at_ms": "timestamp",
        "input_tokens": "input_length",
        "output_tokens": "output_length",
        "block_ids": "hash_ids",
    },
):
    """One request of a trace.

    Attributes:
        at_ms: when it came, since the trace began.
        input_tokens: of its prompt.
        output_tokens: of its answer.
        block_ids: of its prompt's blocks in their order, empty when the trace has none.
    """

    at_ms: Annotated[float, msgspec.Meta(ge=0)]
    input_tokens: Annotated[int, msgspec.Meta(ge=1, le=MAX_PROMPT_TOKENS)]
    output_tokens: Annotated[int, msgspec.Meta(ge=0)]
    block_ids: tuple[int, ...] = ()

    @property
    def at_s(self) -> float:
        return self.at_ms / 1000


def read_trace(
    path: str | Path, *, block_tokens: int = BLOCK_TOKENS, on_bytes: Callable[[int], None] | None = None
) -> Iterator[TraceRequest]:
    """The requests of a file, in its order.

    Args:
        on_bytes: told how many bytes of the file were read since it was told last, for progress.

    Raises:
        ConfigError: a file that cannot be read or is empty, or a line that is wrong, which is named. Lines are read on
            demand, and errors raised as they come.
    """
    try:
        with Path(path).open("rb") as file:
            lines = iter(lambda: file.readline(MAX_LINE_BYTES + 1), b"")
            lines = _told(lines, on_bytes) if on_bytes else lines
            yield from parse_trace(lines, name=str(path), block_tokens=block_tokens)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def parse_trace(
    lines: Iterable[bytes], *, name: str = "trace", block_tokens: int = BLOCK_TOKENS
) -> Iterator[TraceRequest]:
    """The same from lines, each with or without its end; empty ones are passed over."""
    decoder = msgspec.json.Decoder(TraceRequest)
    last_ms, number, is_empty = 0.0, 0, True
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_LINE_BYTES:
            raise ConfigError(f"{name}:{number}: a line longer than {MAX_LINE_BYTES >> 20} MiB: not a request")
        if not line.strip():
            continue
        try:
            request = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{name}:{number}: {error}") from None
        if problem := _problem(request, last_ms, block_tokens):
            raise ConfigError(f"{name}:{number}: {problem}")
        last_ms, is_empty = request.at_ms, False
        yield request
    if is_empty:
        raise ConfigError(f"{name}: no request in {number} lines: expected a JSON object a line")


def _told(lines: Iterable[bytes], on_bytes: Callable[[int], None]) -> Iterator[bytes]:
    """The lines, and every megabyte or so, and at the end, how much of them there was."""
    count = 0
    for line in lines:
        count += len(line)
        if count >= TOLD_BYTES:
            on_bytes(count)
            count = 0
        yield line
    on_bytes(count)


def _problem(request: TraceRequest, last_ms: float, block_tokens: int) -> str | None:
    if request.at_ms < last_ms:
        return f"timestamp {request.at_ms:g} after {last_ms:g}: sort the lines by time"
    blocks = -(-request.input_tokens // block_tokens)
    if request.block_ids and len(request.block_ids) != blocks:
        return (
            f"{len(request.block_ids)} hash_ids for {request.input_tokens} tokens: blocks of {block_tokens} tokens "
            f"make {blocks}; give the trace's block size"
        )
    return None
