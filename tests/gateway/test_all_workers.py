"""One request that several workers may keep."""

import os
from pathlib import Path

import msgspec

from prfaas.gateway.all_workers import AllWorkers
from prfaas.gateway.live import Live
from prfaas.gateway.other_workers import OtherWorkers, name_of
from tests.gateway.fakes import Stand


async def test_of_requests_with_one_id_the_latest_is_told(running: Stand, tmp_path: Path) -> None:
    """Another worker's, too, though this one has kept one; and the own one when that is the latest."""
    await running.chat(2)
    own = await running.ended()
    here, there = OtherWorkers(tmp_path), OtherWorkers(tmp_path)
    workers = AllWorkers(Live(running.services), here, lambda: None, lambda: None)
    later_s = 1.0

    async def answer(_: str) -> bytes:
        return msgspec.json.encode((own.arrived_unix_s + later_s, "theirs"))

    there.answer("request", answer)
    async with there.answering():
        (tmp_path / name_of(os.getpid())).rename(tmp_path / name_of(1))  # as if it were another process than this one
        assert await workers.request(own.request_id) == (msgspec.Raw(b'"theirs"'), 0)
        later_s = -1.0
        told, _ = await workers.request(own.request_id)
        assert told is not None
        assert msgspec.json.decode(told)["decision"]["request_id"] == own.request_id
