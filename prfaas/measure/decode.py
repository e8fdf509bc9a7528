"""Seconds of a decode step with so many requests in it.

All requests of a batch are sent at once and answered token by token. Only what comes after the last one's first token
and before anybody's last token counts: then every step has exactly these requests and no prefill.
"""

import asyncio
import itertools
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from prfaas.errors import ConfigError, EngineUnavailable, PrfaasError
from prfaas.measure.engine import Engine
from prfaas.measure.progress import Steps
from prfaas.measure.prompts import Prompts
from prfaas.measure.samples import interleaved, weighted_median

PART = "decode"
PATIENCE_STEPS = 256
"""So many steps after the last request that began the next one begins: a chunk of a prompt needs one or few."""
BUSY_CLIENT = 0.8
"""Of a core in this process: beyond it, it reads tokens later than they come."""
UNEVEN = 0.15
"""A mean step this far above the median one tells of pauses."""


class BatchRefused(PrfaasError):
    """The engine does not run so many requests at a time."""


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


class Window:
    """One batch, from sending to the last step that counts."""

    def __init__(self, size: int, steps: int) -> None:
        self._size, self._steps = size, steps
        self._arrivals: list[list[tuple[float, bytes]]] = [[] for _ in range(size)]
        self._began: list[int] = []
        self._since = [0] * size
        self._full_s = math.inf
        self._changed = asyncio.Event()

    async def fill(self, engine: Engine, bodies: Sequence[Mapping[str, object]]) -> None:
        """Run the batch and end it. Raises what ``measure_decode`` raises, and BatchRefused."""
        streams = [asyncio.ensure_future(self._stream(engine, at, body)) for at, body in enumerate(bodies)]
        for stream in streams:
            stream.add_done_callback(lambda _: self._changed.set())
        try:
            await self._until(streams, lambda: self._is_full)
            await self._until(streams, lambda: min(self._since) >= self._steps // 2)
            load = await engine.load()
            await self._until(streams, lambda: min(self._since) >= self._steps)
        finally:
            for stream in streams:
                stream.cancel()
            await asyncio.gather(*streams, return_exceptions=True)
        if load.running + load.waiting > self._size:
            raise EngineUnavailable(
                f"{engine.url} had {load.running + load.waiting} requests in a batch of {self._size}: others use it; "
                "drain it first (prfaas drain)"
            )
        if load.running != self._size:
            raise BatchRefused(f"of {self._size} requests {load.running} ran")

    def step_s(self) -> float:
        """The median step: each gap between two events of an answer, divided among the tokens of the second."""
        return weighted_median([(gap_s / tokens, tokens) for gap_s, tokens in self._gaps()])

    def mean_step_s(self) -> float:
        """All gaps by all tokens."""
        gaps = self._gaps()
        return sum(gap_s for gap_s, _ in gaps) / sum(tokens for _, tokens in gaps)

    @property
    def _is_full(self) -> bool:
        return len(self._began) == self._size

    def _gaps(self) -> list[tuple[float, int]]:
        """Seconds between events of one answer while all ran, and the tokens that came after them."""
        return [
            (at_s - before_s, _tokens(event))
            for arrivals in self._arrivals
            for (before_s, _), (at_s, event) in itertools.pairwise(arrivals)
            if before_s >= self._full_s
        ]

    async def _stream(self, engine: Engine, at: int, body: Mapping[str, object]) -> None:
        async for arrival in engine.stream(body, f"while a batch of {self._size} was decoded"):
            self._arrivals[at].append(arrival)
            if len(self._arrivals[at]) == 1:
                self._began.append(at)
                self._full_s = arrival[0] if self._is_full else math.inf
                self._changed.set()
            elif self._is_full:
                # Events are parsed later: now the next ones wait to be read.
                self._since[at] += 1
                if self._since[at] in (self._steps // 2, self._steps):
                    self._changed.set()
            elif self._is_stuck():
                self._changed.set()

    def _is_stuck(self) -> bool:
        """Whether no other request has begun for so many steps that none will before one ends."""
        return not self._is_full and bool(self._began) and len(self._arrivals[self._began[-1]]) > PATIENCE_STEPS

    async def _until(self, streams: Sequence[asyncio.Future[None]], is_so: Callable[[], bool]) -> None:
        """The engine's silence is bounded by the session, and every answer by its tokens."""
        while not is_so():
            for stream, arrivals in zip(streams, self._arrivals, strict=True):
                if stream.done():
                    stream.result()
                    self._ended(arrivals)
            if self._is_stuck():
                raise BatchRefused(f"of {self._size} requests only {len(self._began)} ran at the same time")
            self._changed.clear()
            await self._changed.wait()

    def _ended(self, arrivals: Sequence[tuple[float, bytes]]) -> None:
        """An answer is over before the window is."""
        reason = _finish_reason(arrivals[-1][1]) if arrivals else "without a token"
        if reason != "length":
            raise ConfigError(
                f"an answer in a batch of {self._size} ended ({reason}) after {len(arrivals)} tokens although "
                "ignore_eos was asked for: steps cannot be measured on an engine that does not know it"
            )
        if not self._is_full:
            raise BatchRefused(f"of {self._size} requests only {len(self._began)} ran within {len(arrivals)} tokens")
        raise ConfigError(
            f"answers of {len(arrivals)} tokens, all that fit, have too few steps together in a batch of {self._size}: "
            "measure fewer steps (--steps) or shorter contexts (--context)"
        )


def _tokens(event: bytes) -> int:
    """How many tokens an event brings: one, unless the server was late and put several together."""
    choices = json.loads(event)["choices"]
    return max(1, len((choices[0] if choices else {}).get("token_ids") or ()))


def _finish_reason(event: bytes) -> str:
    choices = json.loads(event)["choices"]
    return str((choices[0] if choices else {}).get("finish_reason"))
