"""Streams of engines, however they come in: clients get whole events."""

from typing import cast

import pytest

from prfaas.gateway.answer import Answer
from prfaas.gateway.upstream import UpstreamAnswer


class Pieces:
    """An engine's stream that arrives in pieces of so many bytes."""

    status = 200
    content_type = "text/event-stream; charset=utf-8"

    def __init__(self, stream: bytes, size_bytes: int) -> None:
        self._pieces = [stream[at : at + size_bytes] for at in range(0, len(stream), size_bytes)]

    async def read_some(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


@pytest.mark.parametrize("size_bytes", [1, 2, 3, 5, 10, 17, 1000])
@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
async def test_parts_are_whole_events(end: bytes, size_bytes: int) -> None:
    """Whatever pieces arrive, and with either end of a line, each part ends where an event does and nothing is lost."""
    stream = b"".join(b'data: {"token": "%d"}' % number + end for number in range(20)) + b"data: [DONE]" + end
    answer = Answer(cast(UpstreamAnswer, Pieces(stream, size_bytes)))
    parts = []
    while part := await answer.next_part():
        parts.append(part)
    assert b"".join(parts) == stream
    assert all(part.endswith(end) for part in parts)
    assert not answer.has_failed
