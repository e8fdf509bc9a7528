"""From samples to a profile."""

from dataclasses import replace
from pathlib import Path

import pytest

from prfaas.errors import ConfigError
from prfaas.measure.decode import DecodeSamples
from prfaas.measure.engine import EngineFacts
from prfaas.measure.result import Origin, result
from prfaas.measure.run import Measured, Wish, check
from prfaas.measure.show import tables
from prfaas.planner.curve import PiecewiseLinear
from prfaas.planner.layers import AttentionCache, ModelCache
from prfaas.planner.profile_file import dump_profile, load_profile

FACTS = EngineFacts("0.32.0", "tiny", "/models/tiny", 10_000, {"block_size": "16", "num_gpu_blocks": "500"})
WISH = Wish(lengths=(100, 1000), batches=(1, 4), rounds=3, steps=16, context_tokens=8)
ORIGIN = Origin("h9000", "one H9000", "2026-01-01T00:00:00+00:00", "1.0", seed=7)
LAYERS = ModelCache((AttentionCache(1, 1000),))
MEASURED = Measured(
    FACTS,
    round_trip_s=0.002,
    prefill={100: [0.1, 0.1, 0.4], 1000: [1.0, 1.1, 0.9]},
    decode=DecodeSamples({1: [0.01], 4: [0.02]}, ["decode: a note"]),
    cache={100: 99_000, 1000: 999_000},
)


def test_a_profile_that_the_planner_reads(tmp_path: Path) -> None:
    """Medians, bytes on the wire, steps; what it was measured with stands beside them."""
    found = result(MEASURED, WISH, ORIGIN, LAYERS)
    dump_profile(found.file, tmp_path / "p.yaml")
    profile = load_profile(tmp_path / "p.yaml")
    assert profile.prefill == PiecewiseLinear((100, 1000), (0.1, 1.0))
    assert profile.cache == PiecewiseLinear((100, 1000), (99_000, 999_000))
    assert profile.decode is not None
    assert (profile.decode.batch, profile.decode.step_s) == ((1, 4), (0.01, 0.02))
    assert found.warnings == ()
    assert found.file.measured is not None
    assert found.file.measured["vllm"] == "0.32.0"
    assert found.file.measured["seed"] == 7
    assert [point.spread_s for point in found.file.prefill.points or ()] == [0.15, 0.1]
    assert len(list(tables(found.file))) == 2


def test_wire_and_layers_that_differ_are_a_warning_and_a_caveat() -> None:
    """Both figures, and the measured one in the profile."""
    found = result(replace(MEASURED, cache={100: 99_000, 1000: 1_100_000}), WISH, ORIGIN, LAYERS)
    assert len(found.warnings) == 1
    assert "1,100,000" in found.warnings[0]
    assert "999,000" in found.warnings[0]
    assert found.warnings[0] in found.file.caveats
    assert [(point.bytes, point.computed) for point in found.file.cache.points or ()] == [
        (99_000, 99_000),
        (1_100_000, 999_000),
    ]


def test_a_clear_fall_is_a_warning_with_the_way_out() -> None:
    """The profile stays readable: both batches have the mean."""
    slow = DecodeSamples({1: [0.02] * 3, 4: [0.01] * 3})
    found = result(replace(MEASURED, decode=slow), WISH, ORIGIN, LAYERS)
    assert "more --rounds" in found.warnings[0]
    assert [point.step_s for point in found.file.decode or ()] == [0.015, 0.015]


def test_without_a_measurement_the_layers_are_taken_and_said() -> None:
    """Sizes are computed, and a caveat says that nobody measured them; without either there is no profile."""
    found = result(replace(MEASURED, cache={}, decode=None), WISH, ORIGIN, LAYERS)
    assert [point.bytes for point in found.file.cache.points or ()] == [99_000, 999_000]
    assert any("computed from the model's layers, not measured" in caveat for caveat in found.file.caveats)
    assert "decode: not measured" in found.file.caveats
    with pytest.raises(ConfigError, match="neither measured nor computed"):
        result(replace(MEASURED, cache={}), WISH, ORIGIN, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lengths": (100,)}, "two different ones"),
        ({"lengths": (100, 100)}, "two different ones"),
        ({"lengths": (1, 100)}, "at least 2 tokens"),
        ({"lengths": (100, 10_000)}, "--lengths: 10001 tokens with the answer; the engine takes 10000"),
        ({"batches": (0,)}, "1 request or more"),
        ({"context_tokens": 9_990}, "--context and --steps: 10007 tokens"),
    ],
)
def test_wishes_that_cannot_be_granted(change: dict[str, tuple[int, ...]], message: str) -> None:
    """Before anything is measured."""
    with pytest.raises(ConfigError, match=message):
        check(replace(WISH, **change), FACTS)  # type: ignore[arg-type]  # each value fits its field
