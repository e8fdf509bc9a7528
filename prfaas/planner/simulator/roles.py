"""Which engines of the local site prefill and which decode, and how that changes."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from prfaas.errors import ConfigError
from prfaas.planner.controller.advice import Conversion
from prfaas.planner.simulator.engine import Engine
from prfaas.planner.simulator.policies import Phase, threshold_of

if TYPE_CHECKING:
    from prfaas.planner.simulator.run import Simulation


class Roles:
    """The split engines of the site, the first of which prefill. An engine for both stays what it is."""

    def __init__(self, simulation: "Simulation") -> None:
        self._simulation = simulation
        site = simulation.scenario.fleet.site
        self._split = [each for each in simulation.engines if each.site == site and each.spec.role != "both"]
        self._draining: dict[str, Conversion] = {}

    def divide(self, prefill_engines: int | None) -> None:
        """At once and for nothing: what runs goes on where it is. None changes nothing."""
        if prefill_engines is None:
            return
        if not 0 <= prefill_engines <= len(self._split):
            raise ConfigError(
                f"prefill_engines: {prefill_engines}: {len(self._split)} engines either prefill or decode"
            )
        for at, engine in enumerate(self._split):
            self._play(engine, at < prefill_engines)

    def schedule(self, phases: Iterable[Phase]) -> None:
        """Change threshold and division at their times."""
        for phase in phases:
            self._simulation.events.at(phase.at_s, self._enter, phase)

    def convert(self, conversions: Iterable[Conversion]) -> None:
        """Drain these engines; ``step`` has them play their new role once they are empty."""
        split = {engine.name: engine for engine in self._split}
        for conversion in conversions:
            engine = split.get(conversion.engine)
            if engine is None or conversion.engine in self._draining:
                raise ConfigError(f"{conversion.engine}: is no engine that can be converted now")
            self._draining[conversion.engine] = conversion
            self._simulation.tally.conversions.append(self._simulation.events.now_s)
            engine.is_draining = True
            engine.touch()

    def step(self) -> None:
        """Begin to change what has become empty."""
        if not self._draining:
            return
        for engine in self._split:
            conversion = self._draining.get(engine.name)
            if conversion is not None and engine.is_draining and not engine.inflight and engine.is_idle:
                del self._draining[engine.name]
                events = self._simulation.events
                events.at(events.now_s + self._simulation.scenario.conversion_s, self._turn, (engine, conversion))

    def _enter(self, phase: Phase) -> None:
        self.divide(phase.prefill_engines)
        self._simulation.set_threshold(threshold_of(phase.threshold_tokens))

    def _turn(self, turned: tuple[Engine, Conversion]) -> None:
        engine, conversion = turned
        engine.is_draining = False
        self._play(engine, conversion.role == "prefill")

    def _play(self, engine: Engine, is_prefill: bool) -> None:
        if not is_prefill and engine.spec.profile.decode is None:
            raise ConfigError(f"{engine.name}: cannot decode: its profile says nothing of that")
        engine.can_prefill, engine.can_decode = is_prefill, not is_prefill
        engine.touch()
