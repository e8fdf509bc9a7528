"""How long a decode step takes at work, by Little's law.

    answers that are decoded at once = tokens a second x seconds a step

Those that wait for their prefill, or whose cache is on its way, are not among them (``EngineState.awaiting``). More
than the largest batch do not run at once, however many are there. The means are over minutes: a difference of
``TOLERANCE`` to the profile is no difference.
"""

from prfaas.planner.controller.decayed import DecayedMean, DecayedRate
from prfaas.planner.decode import DecodeProfile
from prfaas.routing.snapshot import FleetSnapshot

TOLERANCE = 0.05
HALF_LIFE_S = 120.0
"""Several answers long, each of which counts only when it ends."""
MOST, LEAST = 4.0, 0.5
"""Engines are no further than this from their profile: else it is another engine's."""


class DecodePace:
    """Of the engines of the site that only decode; those that also prefill have steps of another kind."""

    def __init__(self) -> None:
        self._tokens = DecayedRate(HALF_LIFE_S)
        self._running = DecayedMean(HALF_LIFE_S)
        self._began_s: float | None = None
        self._engines = 0

    def answer(self, now_s: float, output_tokens: int) -> None:
        """An answer has ended with so many tokens."""
        self._tokens.add(now_s, output_tokens)

    def step(self, now_s: float, fleet: FleetSnapshot, largest_batch: int) -> None:
        """Look at the fleet, engines that drain included: they still answer."""
        self._tokens.begin(now_s)
        self._began_s = now_s if self._began_s is None else self._began_s
        decoding = [each for each in fleet.engines if each.site == fleet.site and each.can_decode and each.is_healthy]
        self._engines = 0 if any(each.can_prefill for each in decoding) else len(decoding)
        running = sum(min(each.inflight - each.awaiting, largest_batch) for each in decoding)
        self._running.add(now_s, float(max(running, 0)))

    def wait_s(self, now_s: float) -> float:
        """Until enough has been seen, 0 from then on."""
        return HALF_LIFE_S if self._began_s is None else max(self._began_s + HALF_LIFE_S - now_s, 0.0)

    def factor(self, now_s: float, profile: DecodeProfile) -> float:
        """Seconds of a step at work by those of the profile; 1 while too little is known."""
        running, tokens_s = self._running.mean(), self._tokens.per_s(now_s)
        if self.wait_s(now_s) or not (self._engines and running and tokens_s):
            return 1.0
        batch = min(max(round(running / self._engines), 1), profile.batch[-1])
        factor = running / tokens_s / profile.seconds(batch)
        beyond = max(abs(factor - 1.0) - TOLERANCE, 0.0)
        return min(max(1.0 + beyond if factor > 1.0 else 1.0 - beyond, LEAST), MOST)
