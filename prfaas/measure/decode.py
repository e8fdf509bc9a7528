"""Seconds of a decode step with so many requests in it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from prfaas.errors import ConfigError
from prfaas.measure.engine import Engine, encoded
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
    run = _Run(engine, model, wish, prompts, steps)
    found = run.found
    for batch in sorted(wish.batches):
        try:
            await run.step_s(batch, "warm-up")
        except BatchRefused as refused:
            found.note(f"decode: {refused}: batches from {batch} on are not measured")
            break
        found.seconds[batch] = []
    if not found.seconds:
        raise ConfigError(found.notes[0])
    steps.done(PART, (len(wish.batches) - len(found.seconds)) * (wish.rounds + 1))
    for at, batch in interleaved(list(found.seconds), wish.rounds, prompts.seed):
        found.seconds[batch].append(await run.step_s(batch, f"round {at + 1}"))
    return found


@dataclass
class _Run:
    """One measurement."""

    engine: Engine
    model: str
    wish: DecodeWish
    prompts: Prompts
    steps: Steps
    found: DecodeSamples = field(default_factory=DecodeSamples)

    async def step_s(self, batch: int, index: str) -> float:
        """One sample. Raises BatchRefused."""
        self.steps.now(PART, f"{index}: batch {batch}")
        before = await self.engine.idle()
        payloads = [self._payload(batch, f"decode {index} {batch} {each}") for each in range(batch)]
        window = Window(batch, self.wish.steps)
        began_s, used_s = self.engine.clock.now_s(), time.process_time()
        await window.fill(self.engine, payloads)
        busy_share = (time.process_time() - used_s) / max(1e-9, self.engine.clock.now_s() - began_s)
        after = await self.engine.idle()
        if after.preemptions > before.preemptions:
            raise BatchRefused(f"{batch} requests do not fit into the cache: some lost their blocks")
        seconds, mean_s = window.step_s(), window.mean_step_s()
        if index != "warm-up":
            self._note_doubts(batch, busy_share, mean_s / seconds)
        self.steps.done(PART, 1, f"{index}: batch {batch} {seconds * 1e3:.2f} ms a step")
        return seconds

    def _payload(self, batch: int, name: str) -> bytes:
        return encoded(
            {
                "model": self.model,
                "prompt": self.prompts.ids(self.wish.context_tokens, name),
                "max_tokens": self.wish.answer_tokens(batch),
                "temperature": 0,
                "ignore_eos": True,
                "cache_salt": self.prompts.salt(name),
                "return_token_ids": True,
                "stream": True,
            }
        )

    def _note_doubts(self, batch: int, busy_share: float, mean_by_median: float) -> None:
        if busy_share > BUSY_CLIENT:
            self.found.note(f"decode: with a batch of {batch} this client's core was nearly busy: steps may be shorter")
        if mean_by_median > 1 + UNEVEN:
            self.found.note(
                f"decode: steps with a batch of {batch} pause: the figure is the median; the mean is longer by more "
                f"than {UNEVEN:.0%}"
            )
