"""Measuring decode steps, over real sockets, of an engine whose times are known."""

import asyncio
import json
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest

from prfaas.errors import ConfigError, EngineUnavailable
from prfaas.measure import window
from prfaas.measure.decode import DecodeSamples, DecodeWish, measure_decode
from prfaas.measure.engine import Engine, Load, session
from prfaas.measure.prompts import Prompts
from prfaas.measure.window import Window
from tests.measure.stub_vllm import NoSteps, StubVllm


@pytest.fixture
async def stub() -> AsyncIterator[StubVllm]:
    async with StubVllm().serving() as engine:
        yield engine


async def measured(stub: StubVllm, *batches: int, steps: int = 24) -> DecodeSamples:
    wish, told = (
        DecodeWish(batches or (1, 4), rounds=2, steps=steps, context_tokens=5, room_tokens=stub.max_tokens),
        NoSteps(),
    )
    async with session() as http:
        engine = Engine(http, stub.url, stub.clock)
        found = await measure_decode(engine, "tiny", wish, Prompts(1, None, "run"), told)
    assert told.work == {"decode": 0}
    return found


async def test_seconds_of_a_step_by_batch(stub: StubVllm) -> None:
    """The step of each batch as the engine takes it, though prefills of the batch's last requests take much longer."""
    stub.prefill_s = lambda tokens: 7.0
    stub.step_s = lambda batch: {1: 0.010, 4: 0.025}.get(batch, 1.0)
    found = await measured(stub)
    assert found.seconds == {1: pytest.approx([0.010] * 2, rel=0.3), 4: pytest.approx([0.025] * 2, rel=0.3)}


async def test_tokens_that_come_together_are_counted(stub: StubVllm) -> None:
    """A server that is late puts three tokens into an event: still the step's seconds."""
    stub.at_once = 3
    stub.step_s = lambda batch: 0.02
    assert (await measured(stub)).seconds[4] == pytest.approx([0.02] * 2, rel=0.3)


async def test_batches_that_do_not_run_at_once_are_left_out(stub: StubVllm, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine of three requests at a time: 1 and 2 are measured, 8 and 16 are not, and that is said."""
    monkeypatch.setattr(window, "PATIENCE_STEPS", 32)
    stub.max_running = 3
    found = await measured(stub, 1, 2, 8, 16)
    assert sorted(found.seconds) == [1, 2]
    assert any("of 8 requests only 3 ran" in note and "from 8 on" in note for note in found.notes)


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ({"ends_after": 6}, ConfigError, r"ended \(stop\) after \d+ tokens although ignore_eos"),
        ({"refuses": ("ignore_eos",)}, ConfigError, "unknown field ignore_eos"),
        ({"dies_after": 7}, EngineUnavailable, "went away while a batch of (1|4) was decoded"),
        ({"others": 1}, EngineUnavailable, "busy"),
    ],
)
async def test_faults_are_named(stub: StubVllm, fault: dict[str, Any], error: type[Exception], message: str) -> None:
    """An engine that ignores ignore_eos or does not know it, that dies, or works for others."""
    for name, value in fault.items():
        setattr(stub, name, value)
    with pytest.raises(error, match=message):
        await measured(stub)


async def test_others_that_come_later_are_seen(stub: StubVllm) -> None:
    """A request of somebody else in the middle of a batch is no part of it."""

    class Later(Engine):
        async def load(self) -> Load:
            load = await super().load()
            return Load(load.running + (load.running > 0), 0, load.finished, 0, 0)

    async with session() as http:
        engine = Later(http, stub.url, stub.clock)
        wish = DecodeWish((2,), 1, 24, 5)
        with pytest.raises(EngineUnavailable, match="3 requests in a batch of 2"):
            await measure_decode(engine, "tiny", wish, Prompts(1, None, "run"), NoSteps())


async def test_requests_that_lose_their_blocks_are_no_batch(stub: StubVllm) -> None:
    """Preemptions mean that the cache is too small for the batch."""

    class Preempting(Engine):
        async def idle(self) -> Load:
            load = await super().idle()
            return Load(load.running, load.waiting, load.finished, 0, len(stub.bodies))

    async with session() as http:
        with pytest.raises(ConfigError, match="do not fit into the cache"):
            await measure_decode(
                Preempting(http, stub.url, stub.clock),
                "tiny",
                DecodeWish((2,), 1, 24, 5),
                Prompts(1, None, "run"),
                NoSteps(),
            )


class Scripted:
    """An engine whose answers arrive exactly as they are written here, and do not end."""

    def __init__(self, answers: list[list[tuple[float, int]]]) -> None:
        self._answers, self.url = answers, "scripted"
        self._next_s = [answer[0][0] for answer in answers]

    async def stream(self, payload: bytes, doing: str) -> AsyncIterator[tuple[float, bytes]]:
        for at_s, tokens in self._answers[int(payload)]:
            self._next_s[int(payload)] = at_s
            await asyncio.sleep(0)
            while at_s > min(self._next_s):  # noqa: ASYNC110 - the others' turn
                await asyncio.sleep(0)
            yield at_s, json.dumps({"choices": [{"token_ids": [1] * tokens}]}).encode()
        self._next_s[int(payload)] = math.inf
        await asyncio.Event().wait()

    async def load(self) -> Load:
        return Load(len(self._answers), 0, 0, 0, 0)


async def test_only_steps_with_everybody_count() -> None:
    """The first answer's steps before the second one's first token are left out; a pause moves the mean alone."""
    early = [(float(at), 1) for at in range(10)]
    full = [(100.0 + at * 0.5, 1) for at in range(12)] + [(200.0 + at * 0.5, 1) for at in range(21)]
    batch = Window(2, 30)
    await batch.fill(Scripted([early + full, full]), [b"0", b"1"])  # type: ignore[arg-type]  # stands for one
    assert batch.step_s() == 0.5
    assert batch.mean_step_s() > 2


async def test_tokens_that_were_read_late_are_averaged() -> None:
    """A reader that sees four events at once every four steps: the step is theirs by four, not nothing."""
    bursts = [(10.0 + 4 * (at // 4), 1) for at in range(41)]
    batch = Window(1, 40)
    await batch.fill(Scripted([bursts]), [b"0"])  # type: ignore[arg-type]  # as above
    assert batch.step_s() == pytest.approx(1.0, rel=0.2)
