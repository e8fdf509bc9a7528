"""How fast every engine prefills: as the configuration says, until enough has been measured."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from prfaas.clock import Clock
from prfaas.config import Config, EngineConfig
from prfaas.fleet.prefill_meter import PrefillMeter, Work
from prfaas.fleet.prefill_speed import PrefillSpeed
from prfaas.routing.figures import PrefillRate


@dataclass
class Prefilling:
    """One prefill under way; whoever ran it says that it came to its end."""

    is_over: bool = False


@dataclass
class _Engine:
    config: EngineConfig
    rate: PrefillRate | None
    meter: PrefillMeter = field(default_factory=PrefillMeter)
    speed: PrefillSpeed = field(default_factory=PrefillSpeed)

    def learn(self, tokens: int, squares: int, seconds: float) -> None:
        """The part that grows with the square of the length is not learnt: it stays as configured."""
        s_per_token2 = self.rate.s_per_token2 if self.rate else 0.0
        before = self.speed.parts
        self.speed.add(tokens, seconds - s_per_token2 * squares)
        if (parts := self.speed.parts) is not None and parts is not before:
            self.rate = PrefillRate(*parts, s_per_token2, source="measured")


class EngineSpeeds:
    """Of all engines. Belongs to one event loop."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._clock = clock
        self._engines = {name: _Engine(engine, _rate_of(engine)) for name, engine in config.engines.items()}

    def following(self, config: Config) -> "EngineSpeeds":
        """Those of another configuration; what is known of engines that stay goes over to it."""
        speeds = EngineSpeeds(config, self._clock)
        for name, engine in speeds._engines.items():
            former = self._engines.get(name)
            if former and _identity(former.config) == _identity(engine.config):
                speeds._engines[name] = former
        return speeds

    def of(self, engine: str) -> PrefillRate | None:
        """What is known now: the same object until it changes."""
        return self._engines[engine].rate

    def set(self, engine: str, rate: PrefillRate | None) -> None:
        """What is known from now on, until more is measured."""
        self._engines[engine].rate = rate

    def measured(self) -> Mapping[str, float]:
        """Engine -> tokens per second of a long prompt, for those that have been measured."""
        rates = {name: engine.rate for name, engine in self._engines.items()}
        return {
            name: 1 / rate.s_per_token
            for name, rate in rates.items()
            if rate and rate.source == "measured" and rate.s_per_token
        }

    @contextmanager
    def measuring(self, engine: str, work: Work | None, *, is_timed: bool = True) -> Iterator[Prefilling]:
        """The engine prefills for the duration of the block, which says when that came to its end. Nothing is learnt
        without ``work`` (the prompt is short, or nobody knows), nor if the block ends at another time (not
        ``is_timed``)."""
        prefilling = Prefilling()
        known = self._engines[engine]
        if work is None or not is_timed:
            if work is not None:
                known.meter.disturb()
            yield prefilling
            return
        known.meter.begin(self._clock.now_s())
        try:
            yield prefilling
        finally:
            period = known.meter.end(work if prefilling.is_over else None, self._clock.now_s())
            if period is not None:
                known.learn(*period)


def _identity(engine: EngineConfig) -> tuple[object, ...]:
    return engine.site, engine.url, engine.kv, engine.prefill


def _rate_of(engine: EngineConfig) -> PrefillRate | None:
    rate = engine.prefill
    return PrefillRate(rate.fixed_s, rate.s_per_token, rate.s_per_token2) if rate else None
