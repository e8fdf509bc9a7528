"""What the gateway measures of its engines' speed, and what placement makes of it."""

from dataclasses import replace
from typing import Any

import pytest

from prfaas.clock import ManualClock
from prfaas.config import Config
from prfaas.fleet import prefill_speed
from prfaas.fleet.prefill_meter import Work
from prfaas.gateway.engine_speeds import EngineSpeeds
from prfaas.routing.figures import PrefillRate
from tests.gateway.fakes import Stand, config_for
from tests.gateway.stub_engine import refuse
from tests.gateway.test_remote import USED

CONFIG = config_for("http://127.0.0.1:8101", "http://127.0.0.1:8102")


def with_engine(**fields: Any) -> Config:
    tree = CONFIG.model_dump(by_alias=True)
    tree["engines"]["edge-0"] |= fields
    return Config.model_validate(tree)


def prefill(speeds: EngineSpeeds, clock: ManualClock, work: Work, seconds: float, *, is_over: bool = True) -> None:
    with speeds.measuring("edge-0", work) as prefilling:
        clock.advance(seconds)
        prefilling.is_over = is_over


def measure(speeds: EngineSpeeds, clock: ManualClock) -> None:
    """0.1 s and 1 ms a token, in as many samples as are needed."""
    for at in range(prefill_speed.MIN_SAMPLES):
        prefill(speeds, clock, Work(1_000 * (1 + at)), 0.1 + 1 + at)


def test_measured_speed_replaces_the_configured_one() -> None:
    """Once there are enough samples, not before; an engine without a word of its speed gets one, too."""
    for configured in (None, {"fixed_s": 5, "s_per_token": 5}):
        clock = ManualClock()
        speeds = EngineSpeeds(with_engine(prefill=configured), clock)
        before = speeds.of("edge-0")
        assert (before is None) == (configured is None)
        prefill(speeds, clock, Work(1_000), 1.0)
        assert speeds.of("edge-0") is before
        assert speeds.measured() == {}
        measure(speeds, clock)
        rate = speeds.of("edge-0")
        assert rate is not None
        assert rate.source == "measured"
        assert rate.s_per_token == pytest.approx(1e-3, rel=0.05)
        assert speeds.measured() == {"edge-0": pytest.approx(1_000, rel=0.05)}
        assert speeds.of("edge-0") is rate


def test_configured_quadratic_part_stays() -> None:
    """Only the straight part is learnt, of what the other one leaves."""
    clock = ManualClock()
    speeds = EngineSpeeds(with_engine(prefill={"s_per_token": 5, "s_per_token2": 1e-6}), clock)
    for at in range(prefill_speed.MIN_SAMPLES):
        tokens = 1_000 * (1 + at)
        prefill(speeds, clock, Work(tokens, 500), 0.1 + 1e-3 * tokens + 1e-6 * ((500 + tokens) ** 2 - 500**2))
    rate = speeds.of("edge-0")
    assert rate is not None
    assert (rate.fixed_s, rate.s_per_token) == pytest.approx((0.1, 1e-3))
    assert rate == PrefillRate(rate.fixed_s, rate.s_per_token, 1e-6, "measured")


def test_what_fails_or_ends_at_another_time_is_not_learnt_from() -> None:
    clock = ManualClock()
    speeds = EngineSpeeds(CONFIG, clock)
    for _ in range(2 * prefill_speed.MIN_SAMPLES):
        prefill(speeds, clock, Work(1_000), 1.0, is_over=False)
        with pytest.raises(TimeoutError), speeds.measuring("edge-0", Work(1_000)):
            raise TimeoutError
        with speeds.measuring("edge-0", Work(1_000), is_timed=False) as prefilling:
            prefilling.is_over = True
        with speeds.measuring("edge-0", Work(1_000)) as prefilling, speeds.measuring("edge-0", Work(9), is_timed=False):
            clock.advance(1.0)
            prefilling.is_over = True
    assert speeds.of("edge-0") is None


@pytest.mark.parametrize(
    ("fields", "is_kept"),
    [
        ({"roles": ["decode"]}, True),
        ({"url": "http://127.0.0.1:9"}, False),
        ({"prefill": {"s_per_token": 2.0}}, False),
    ],
)
def test_reload_keeps_what_is_known_of_engines_that_stay(fields: dict[str, Any], is_kept: bool) -> None:
    """An engine at another address, or of another configured speed, is learnt anew. A prefill that began before ends
    in both."""
    clock = ManualClock()
    before = EngineSpeeds(CONFIG, clock)
    measure(before, clock)
    after = before.following(with_engine(**fields))
    rate = after.of("edge-0")
    assert (rate is not None and rate.source == "measured") == is_kept
    assert before.of("edge-0") is not None


async def learn(running: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """A local and some remote prompts, of a length that counts."""
    monkeypatch.setattr(prefill_speed, "MIN_TOKENS", 2)
    running.reports.default = USED
    for words, engine in ((3, "edge-0"), (10, "cloud-0")):
        # A prefill that the answer overtakes is given up and tells nothing, so some need more than the fewest.
        for _ in range(10 * prefill_speed.MIN_SAMPLES):
            async with await running.chat(words, stream=True) as answer:
                await answer.read()
            await running.ended()
            if running.services.view.speeds.of(engine) is not None:
                break


async def test_predictions_need_no_configured_speed(running: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a warm-up under ``predictive`` decisions are by prediction; they, the record and the metrics say so."""
    view = running.services.view
    view.policy = replace(view.policy, name="predictive")
    running.reports.default = USED
    async with await running.chat(10, stream=True) as answer:
        await answer.read()
    assert "nothing is predicted: how fast edge-0 is, is unknown" in (await running.ended()).reasons
    await learn(running, monkeypatch)
    async with await running.chat(10, stream=True) as answer:
        await answer.read()
    decision = await running.ended()
    assert "speeds: cloud-0 measured, edge-0 measured" in decision.reasons
    assert decision.predicted_first_token_s is not None
    async with running.client.get(f"{running.url}/prfaas/decisions") as answer:
        record = (await answer.json())["decisions"][0]
    assert {each["speed"] for each in record["candidates"]} == {"measured"}
    async with running.client.get(f"{running.url}/metrics") as answer:
        text = await answer.text()
    assert 'prfaas_prefill_tokens_per_second{engine="edge-0"}' in text
    assert 'prfaas_prefill_tokens_per_second{engine="cloud-0"}' in text


async def test_refusals_and_whole_answers_tell_nothing(running: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that is no stream comes at its end, and a refused prompt is not prefilled."""
    monkeypatch.setattr(prefill_speed, "MIN_TOKENS", 2)
    for script, is_stream in ((running.edge.script, False), (refuse(400), True)):
        running.edge.script = script
        for _ in range(prefill_speed.MIN_SAMPLES):
            async with await running.chat(3, stream=is_stream) as answer:
                await answer.read()
    assert running.services.view.speeds.of("edge-0") is None
