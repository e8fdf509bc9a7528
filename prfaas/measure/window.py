"""One batch of answers, from sending it to the last step that counts.

All requests are sent at once and answered token by token. Only what comes after the last one's first token and before
anybody's last token counts: then every step has exactly these requests and no prefill.
"""

import asyncio
import json
import math
from collections.abc import Callable, Sequence

from prfaas.errors import ConfigError, EngineUnavailable, PrfaasError
from prfaas.measure.engine import Engine
from prfaas.measure.samples import weighted_median

PATIENCE_STEPS = 256
"""So many steps after the last request that began the next one begins: a chunk of a prompt needs one or few."""

STRETCH_TOKENS = 8
"""Over which a step is averaged: what reads the tokens may be late by some of them, on a busy machine by several."""


class BatchRefused(PrfaasError):
    """The engine does not run so many requests at a time."""


class Window:
    """One batch, from sending to the last step that counts."""

    def __init__(self, size: int, steps: int) -> None:
        self._size, self._steps = size, steps
        self._arrivals: list[list[tuple[float, bytes]]] = [[] for _ in range(size)]
        self._began: list[int] = []
        self._since = [0] * size
        self._full_s = math.inf
        self._changed = asyncio.Event()

    async def fill(self, engine: Engine, payloads: Sequence[bytes]) -> None:
        """Run the batch and end it.

        Raises:
            BatchRefused: the engine does not run so many at a time.
            ConfigError: it refuses the requests, or ends answers early.
            EngineUnavailable: it works for others, or went away.
        """
        streams = [asyncio.ensure_future(self._stream(engine, at, payload)) for at, payload in enumerate(payloads)]
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
        """The median step, of stretches of some tokens of one answer: a burst that was read late is averaged within its
        stretch, a pause moves one stretch alone."""
        return weighted_median(self._stretches())

    def mean_step_s(self) -> float:
        """All seconds by all tokens."""
        found = self._stretches()
        return sum(step_s * tokens for step_s, tokens in found) / sum(tokens for _, tokens in found)

    @property
    def _is_full(self) -> bool:
        return len(self._began) == self._size

    def _stretches(self) -> list[tuple[float, int]]:
        """Seconds of a step and tokens of each stretch, of all answers, while all ran."""
        found = []
        for arrivals in self._arrivals:
            full = [arrival for arrival in arrivals if arrival[0] >= self._full_s]
            began_s, tokens = full[0][0], 0
            for at_s, event in full[1:]:
                tokens += _tokens(event)
                if tokens >= STRETCH_TOKENS:
                    found.append(((at_s - began_s) / tokens, tokens))
                    began_s, tokens = at_s, 0
        return found

    async def _stream(self, engine: Engine, at: int, payload: bytes) -> None:
        async for arrival in engine.stream(payload, f"while a batch of {self._size} was decoded"):
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
