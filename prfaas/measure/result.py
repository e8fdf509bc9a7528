"""From what was measured to a profile file, with what its reader has to know: pure."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from prfaas.errors import ConfigError
from prfaas.measure.cache import disagreements
from prfaas.measure.run import Measured, Wish
from prfaas.measure.samples import Point, never_falling, points
from prfaas.planner.layers import ModelCache
from prfaas.planner.profile_file import (
    CachePoint,
    CacheSection,
    DecodePoint,
    PrefillPoint,
    PrefillSection,
    ProfileFile,
)

DIGITS = 6
"""Significant ones of a figure in the file; a clock has no more."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the figures come from, for the file.

    Attributes:
        name: of the engine kind, in plans.
        hardware: what the engine runs on, as far as somebody said.
        date: when, in ISO 8601.
        prfaas: our version.
        seed: of prompts and of the order.
        cannot_compute: why the layers say nothing, empty when they do.
    """

    name: str
    hardware: str
    date: str
    prfaas: str
    seed: int
    cannot_compute: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """A profile and what is wrong with it.

    Attributes:
        file: passes the profile's own checks.
        warnings: in it as caveats, too; each says what to do.
    """

    file: ProfileFile
    warnings: tuple[str, ...]


def result(measured: Measured, wish: Wish, origin: Origin, computed: ModelCache | None) -> Result:
    """Make the profile.

    Raises:
        ConfigError: the figures make none, with the reason.
    """
    prefill, smoothed, falls = never_falling(points(measured.prefill), "tokens")
    decode: Sequence[Point] = ()
    if measured.decode is not None:
        decode, decode_smoothed, decode_falls = never_falling(points(measured.decode.seconds), "requests")
        smoothed, falls = (*smoothed, *decode_smoothed), (*falls, *decode_falls)
    warnings = (
        *disagreements(measured.cache, computed, block_tokens(measured)),
        *(f"{fall}; noise does not explain it: measure again on an idle machine, with more --rounds" for fall in falls),
    )
    file = ProfileFile(
        engine=origin.name,
        model=measured.facts.root or measured.facts.model,
        source="measured by prfaas profile",
        prefill=PrefillSection(
            points=[
                PrefillPoint(tokens=p.size, seconds=_short(p.seconds), spread_s=_short(p.spread_s)) for p in prefill
            ]
        ),
        cache=CacheSection(points=_cache_points(measured, wish.lengths, computed)),
        decode=[DecodePoint(batch=p.size, step_s=_short(p.seconds), spread_s=_short(p.spread_s)) for p in decode]
        or None,
        caveats=[*warnings, *_caveats(measured, wish, origin, computed), *smoothed],
        measured=_measured(measured, wish, origin, computed),
    )
    file.profile()
    return Result(file, warnings)


def block_tokens(measured: Measured) -> int:
    """Of the engine's blocks, 1 if it does not say."""
    told = measured.facts.cache.get("block_size", "")
    return int(told) if told.isdigit() and int(told) else 1


def _cache_points(measured: Measured, lengths: Sequence[int], computed: ModelCache | None) -> list[CachePoint]:
    """The measured bytes where there are some, else the computed ones."""
    found = []
    for length in sorted(set(lengths)):
        by_layers = computed.prompt_bytes(length, block_tokens=block_tokens(measured)) if computed else None
        on_wire = measured.cache.get(length)
        size = on_wire or by_layers
        if size:
            found.append(CachePoint(tokens=length, bytes=size, computed=by_layers if on_wire else None))
    if not found:
        raise ConfigError("the size of caches is neither measured nor computed: " + "; ".join(measured.missing))
    return found


def _caveats(measured: Measured, wish: Wish, origin: Origin, computed: ModelCache | None) -> list[str]:
    caveats = [
        "prefill: seconds to the first token as a client sees them, the median of "
        f"{wish.rounds} rounds with random tokens; a round trip ({measured.round_trip_s * 1e3:.1f} ms) is in them"
    ]
    if measured.decode is not None:
        caveats.append(f"decode: contexts of {wish.context_tokens} tokens; longer ones take longer steps")
        caveats += measured.decode.notes
    else:
        caveats.append("decode: not measured")
    if not measured.cache:
        caveats.append("cache: computed from the model's layers, not measured")
    elif computed is None:
        caveats.append(f"cache: measured, with nothing to compare it with: {origin.cannot_compute}")
    return [*caveats, *measured.missing]


def _measured(
    measured: Measured, wish: Wish, origin: Origin, computed: ModelCache | None
) -> dict[str, str | int | float]:
    cache = measured.facts.cache
    told: dict[str, str | int | float | None] = {
        "date": origin.date,
        "vllm": measured.facts.version,
        "prfaas": origin.prfaas,
        "hardware": origin.hardware,
        "seed": origin.seed,
        "rounds": wish.rounds,
        "order": "lengths and batches shuffled in each round",
        "steps": wish.steps if wish.batches else None,
        "context_tokens": wish.context_tokens if wish.batches else None,
        "round_trip_s": _short(measured.round_trip_s),
        "prefill_spread": _short(_spread(points(measured.prefill))),
        "layers": computed.describe() if computed else None,
        "block_tokens": cache.get("block_size"),
        "blocks": cache.get("num_gpu_blocks"),
        "cache_dtype": cache.get("cache_dtype"),
    }
    return {key: value for key, value in told.items() if value not in (None, "")}


def _spread(measured: Sequence[Point]) -> float:
    """The middle half of the samples as a share of their median, in the middle of all points."""
    return statistics.median(point.spread_s / point.seconds for point in measured)


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
