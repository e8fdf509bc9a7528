"""Seconds from sending a prompt to its first token, with nothing cached and nothing else running."""

import json
from collections.abc import Sequence

from prfaas.errors import ConfigError, EngineUnavailable
from prfaas.measure.engine import Engine, Load, encoded
from prfaas.measure.progress import Steps
from prfaas.measure.prompts import Prompts
from prfaas.measure.samples import interleaved

PART = "prefill"


async def measure_prefill(
    engine: Engine, model: str, lengths: Sequence[int], rounds: int, prompts: Prompts, steps: Steps
) -> dict[int, list[float]]:
    """Seconds of each round by prompt length, after a warm-up with each length that does not count.

    The seconds are the client's: the round trip, the engine's reading of the request and the sampling of the first
    token are in them. One prompt at a time.

    Raises:
        ConfigError: the engine refuses a length, or had part of a prompt in its cache.
        EngineUnavailable: it works for others, or went away.
    """
    steps.part(PART, sum(lengths) * (rounds + 1))
    samples: dict[int, list[float]] = {length: [] for length in lengths}
    for length in sorted(lengths):
        await _timed(engine, model, length, "warm-up", prompts, steps)
    for at, length in interleaved(lengths, rounds, prompts.seed):
        samples[length].append(await _timed(engine, model, length, f"round {at + 1}", prompts, steps))
    return samples


async def _timed(engine: Engine, model: str, length: int, index: str, prompts: Prompts, steps: Steps) -> float:
    steps.now(PART, f"{index}: {length} tokens")
    before = await engine.idle()
    seconds = await first_token_s(engine, model, prompts.ids(length, index), prompts.salt(f"{index} {length}"))
    _check_alone(engine, before, await engine.idle(), length)
    steps.done(PART, length, f"{index}: {length} tokens {seconds:.4f} s")
    return seconds


async def first_token_s(engine: Engine, model: str, prompt: Sequence[int], salt: str) -> float:
    """Of one prompt."""
    payload = encoded(
        {
            "model": model,
            "prompt": list(prompt),
            "max_tokens": 1,
            "temperature": 0,
            "ignore_eos": True,
            "cache_salt": salt,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    )
    began_s, first_s, counted = engine.clock.now_s(), None, None
    async for at_s, event in engine.stream(payload, f"while a prompt of {len(prompt)} tokens was prefilled"):
        first_s = at_s if first_s is None else first_s
        counted = (json.loads(event).get("usage") or {}).get("prompt_tokens", counted)
    if first_s is None:
        raise EngineUnavailable(f"{engine.url} answered a prompt of {len(prompt)} tokens without any token")
    if counted not in (None, len(prompt)):
        raise ConfigError(f"{engine.url} prefilled {counted} tokens of a prompt of {len(prompt)}: it cuts prompts")
    return first_s - began_s


def _check_alone(engine: Engine, before: Load, after: Load, length: int) -> None:
    others = after.finished - before.finished - 1
    if others > 0:
        raise EngineUnavailable(
            f"{engine.url} answered {others} requests of others while a prompt of {length} tokens was measured: drain "
            "it first (prfaas drain)"
        )
    if hits := after.hit_tokens - before.hit_tokens:
        raise ConfigError(
            f"{engine.url} had {hits} of {length} tokens of a new prompt in its cache: it ignores cache_salt, and its "
            "speed cannot be told; restart it, or choose another --seed"
        )
