"""The whole measurement of one engine, in the order in which it runs."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from prfaas.errors import ConfigError
from prfaas.measure.cache import Source, measure_cache
from prfaas.measure.decode import DecodeSamples, DecodeWish, measure_decode
from prfaas.measure.engine import Engine, EngineFacts
from prfaas.measure.prefill import measure_prefill
from prfaas.measure.progress import Steps
from prfaas.measure.prompts import Prompts


@dataclass(frozen=True, slots=True)
class Wish:
    """What to measure.

    Attributes:
        lengths: of prompts, in tokens.
        batches: requests that are decoded together; none for an engine that only prefills.
        rounds: samples of each.
        steps: of decode, a sample.
        context_tokens: of the prompts before them.
    """

    lengths: Sequence[int]
    batches: Sequence[int]
    rounds: int
    steps: int
    context_tokens: int


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured: seconds and bytes by length, steps by batch.

    Attributes:
        round_trip_s: of a question that computes nothing; it is part of every prefill.
        missing: why bytes of some lengths are missing.
    """

    facts: EngineFacts
    round_trip_s: float
    prefill: dict[int, list[float]]
    decode: DecodeSamples | None = None
    cache: dict[int, int] = field(default_factory=dict)
    missing: Sequence[str] = ()


def check(wish: Wish, facts: EngineFacts) -> None:
    """Raises ConfigError for what cannot be measured, before anything is."""
    if len(set(wish.lengths)) < 2 or min(wish.lengths) < 2:
        raise ConfigError(
            f"--lengths {','.join(map(str, wish.lengths))}: two different ones or more, of at least 2 tokens; the "
            "longest as long as the longest prompts"
        )
    if any(batch < 1 for batch in wish.batches):
        raise ConfigError(f"--batches {','.join(map(str, wish.batches))}: a batch has 1 request or more")
    room = facts.max_tokens
    for option, needed in (
        ("--lengths", max(wish.lengths) + 1),
        ("--context and --steps", wish.context_tokens + wish.steps + 1 if wish.batches else 0),
    ):
        if room is not None and needed > room:
            raise ConfigError(
                f"{option}: {needed} tokens with the answer; the engine takes {room} (vLLM's --max-model-len)"
            )


async def measure(
    engine: Engine,
    facts: EngineFacts,
    wish: Wish,
    prompts: Prompts,
    source: Source | None,
    is_computed: bool,
    steps: Steps,
) -> Measured:
    """Caches, then prefill, then decode; nothing of it overlaps.

    Caches come first because most can be wrong with them, and a wrong one should not cost the time of the rest.

    Args:
        source: who measures caches, None for nobody.
        is_computed: their sizes are known from the model's layers, too.

    Raises:
        ConfigError: the wish cannot be granted, or the engine refuses.
        EngineUnavailable: it works for others, or went away.
    """
    check(wish, facts)
    await engine.idle()
    round_trip_s = min([await engine.round_trip_s() for _ in range(5)])
    cache: dict[int, int] = {}
    missing: list[str] = []
    if source is not None:
        cache, missing = await measure_cache(source, facts.model, wish.lengths, prompts, steps)
    if len(cache) < 2 and not is_computed:
        raise ConfigError("; ".join(missing) or "nobody measures the size of caches: say --gateway or --config")
    prefill = await measure_prefill(engine, facts.model, wish.lengths, wish.rounds, prompts, steps)
    decode = None
    if wish.batches:
        asked = DecodeWish(wish.batches, wish.rounds, wish.steps, wish.context_tokens, facts.max_tokens)
        decode = await measure_decode(engine, facts.model, asked, prompts, steps)
    return Measured(facts, round_trip_s, prefill, decode, cache, missing)
