"""An engine's speed is learnt from little, in spite of odd samples, and follows a change."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.fleet.prefill_speed import MAX_SAMPLES, MIN_SAMPLES, MIN_TOKENS, PrefillSpeed

Samples = list[tuple[int, float]]


def prompts(count: int, s_per_token: float = 1e-4, fixed_s: float = 0.2, longest: int = 30_000) -> Samples:
    """Of all lengths, with a tenth of noise."""
    rng = random.Random(3)
    lengths = [rng.randrange(MIN_TOKENS, longest) for _ in range(count)]
    return [(tokens, (fixed_s + s_per_token * tokens) * rng.uniform(0.9, 1.1)) for tokens in lengths]


def learnt(*samples: tuple[int, float]) -> tuple[float, float] | None:
    speed = PrefillSpeed()
    for tokens, seconds in samples:
        speed.add(tokens, seconds)
    return speed.parts


def test_speed_is_known_after_a_few_prompts() -> None:
    samples = prompts(MIN_SAMPLES)
    assert learnt(*samples[:-1]) is None
    parts = learnt(*samples)
    assert parts is not None
    assert parts[1] == pytest.approx(1e-4, rel=0.15)
    assert learnt(*((MIN_TOKENS - 1, 0.1),) * 50) is None


def test_both_parts_are_learnt() -> None:
    parts = learnt(*prompts(MAX_SAMPLES))
    assert parts is not None
    assert parts[0] == pytest.approx(0.2, rel=0.35)
    assert parts[1] == pytest.approx(1e-4, rel=0.05)


def test_prompts_of_one_length_tell_of_that_length() -> None:
    """No fixed part can be told apart, and the sum is right."""
    assert learnt(*((1_000, 0.3), (1_010, 0.303)) * 10) == pytest.approx((0.0, 3e-4))


@pytest.mark.parametrize("factor", [0.01, 20.0])
def test_odd_samples_change_little(factor: float) -> None:
    """One in five is far too quick (a hit that nobody knew of) or far too slow (a compile, another gateway)."""
    samples = [(tokens, time_s * (factor if at % 5 == 0 else 1)) for at, (tokens, time_s) in enumerate(prompts(60))]
    parts = learnt(*samples)
    assert parts is not None
    assert parts[1] == pytest.approx(1e-4, rel=0.35)


def test_another_speed_is_followed() -> None:
    """Once most of what is remembered is of the new one."""
    parts = learnt(*prompts(MAX_SAMPLES), *prompts(MAX_SAMPLES, s_per_token=5e-4))
    assert parts is not None
    assert parts[1] == pytest.approx(5e-4, rel=0.1)


def test_long_prompts_correct_what_short_ones_said() -> None:
    """Beside many short ones that show no slope, a few long ones decide what is predicted of long prompts."""
    parts = learnt(*((300 + 20 * at, 0.05) for at in range(50)), *((20_000 + at, 2.0) for at in range(4)))
    assert parts is not None
    assert parts[0] + parts[1] * 20_000 == pytest.approx(2.0, rel=0.1)


@given(st.lists(st.tuples(st.integers(1, 200_000), st.floats(-1, 1e4)), max_size=80))
def test_no_part_is_negative(samples: Samples) -> None:
    """Whatever is measured, predictions made of it are no time travel."""
    parts = learnt(*samples)
    assert parts is None or (parts[0] >= 0 and parts[1] >= 0)
