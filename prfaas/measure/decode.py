"""Seconds of a decode step with so many requests in it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from prfaas.errors import ConfigError
from prfaas.measure.engine import Engine
from prfaas.measure.progress import Steps
from prfaas.measure.prompts import Prompts
from prfaas.measure.samples import interleaved
from prfaas.measure.window import PATIENCE_STEPS, BatchRefused, Window

PART = "decode"
BUSY_CLIENT = 0.8
"""Of a core in this process: beyond it, it reads tokens later than they come."""
UNEVEN = 0.15
"""A mean step this far above the median one tells of pauses."""


@dataclass
class DecodeSamples:
    """What came of it.

    Attributes:
        seconds: of a step, a sample a round, by batch.
        notes: what a reader of the figures has to know.
    """

    seconds: dict[int, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Add a note, once."""
        if text not in self.notes:
            self.notes.append(text)


@dataclass(frozen=True, slots=True)
class DecodeWish:
    """What to measure.

    Attributes:
        batches: requests at a time.
        rounds: samples of each batch.
        steps: that each sample takes.
        context_tokens: of the prompt that each request has before them.
        room_tokens: prompt and answer together have no more.
    """

    batches: Sequence[int]
    rounds: int
    steps: int
    context_tokens: int
    room_tokens: int | None = None

    def answer_tokens(self, batch: int) -> int:
        """Of each request; its answer is cut off as soon as there are enough steps."""
        wanted = self.steps + PATIENCE_STEPS * batch
        return wanted if self.room_tokens is None else min(wanted, self.room_tokens - self.context_tokens)


async def measure_decode(engine: Engine, model: str, wish: DecodeWish, prompts: Prompts, steps: Steps) -> DecodeSamples:
    """Seconds of a step by batch, after a warm-up with each batch that does not count.

    Batches that the engine does not run at once end the list, and a note says so.

    Raises:
        ConfigError: it refuses the requests, ends answers early, or runs not even the smallest batch.
        EngineUnavailable: it works for others, or went away.
    """
    steps.part(PART, len(wish.batches) * (wish.rounds + 1))
    found = DecodeSamples()
    for batch in sorted(wish.batches):
        try:
            await _timed(engine, model, batch, "warm-up", wish, prompts, found, steps)
        except BatchRefused as refused:
            found.note(f"decode: {refused}: batches from {batch} on are not measured")
            break
        found.seconds[batch] = []
    if not found.seconds:
        raise ConfigError(found.notes[0])
    left_out = len(wish.batches) - len(found.seconds)
    steps.done(PART, left_out * (wish.rounds + 1))
    for at, batch in interleaved(list(found.seconds), wish.rounds, prompts.seed):
        seconds = await _timed(engine, model, batch, f"round {at + 1}", wish, prompts, found, steps)
        found.seconds[batch].append(seconds)
    return found


async def _timed(
    engine: Engine,
    model: str,
    batch: int,
    index: str,
    wish: DecodeWish,
    prompts: Prompts,
    found: DecodeSamples,
    steps: Steps,
) -> float:
    steps.now(PART, f"{index}: batch {batch}")
    before = await engine.idle()
    bodies = [
        {
            "model": model,
            "prompt": prompts.ids(wish.context_tokens, f"decode {index} {batch} {each}"),
            "max_tokens": wish.answer_tokens(batch),
            "temperature": 0,
            "ignore_eos": True,
            "cache_salt": prompts.salt(f"decode {index} {batch} {each}"),
            "return_token_ids": True,
        }
        for each in range(batch)
    ]
    window = Window(batch, wish.steps)
    began_s, used_s = engine.clock.now_s(), time.process_time()
    await window.fill(engine, bodies)
    share = (time.process_time() - used_s) / max(1e-9, engine.clock.now_s() - began_s)
    after = await engine.idle()
    if after.preemptions > before.preemptions:
        raise BatchRefused(f"{batch} requests do not fit into the cache: some lost their blocks")
    if share > BUSY_CLIENT:
        found.note(f"decode: with a batch of {batch} this client was the slower one: its core was {share:.0%} busy")
    seconds, mean_s = window.step_s(), window.mean_step_s()
    if mean_s > seconds * (1 + UNEVEN) and index != "warm-up":
        found.note(
            f"decode: steps with a batch of {batch} pause: the figure is the median, the mean is longer by more than "
            f"{UNEVEN:.0%}"
        )
    steps.done(PART, 1, f"{index}: batch {batch} {seconds * 1e3:.2f} ms a step")
    return seconds
