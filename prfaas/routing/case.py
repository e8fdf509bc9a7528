"""One decision's inputs, and the few questions that all its steps ask of them.

Engines are asked about in lists: with many of them the decision's time is that of these loops.
"""

from collections.abc import Sequence

import msgspec

from prfaas.routing.placement import Candidate
from prfaas.routing.policy import Policy
from prfaas.routing.predict import Path, first_token_s
from prfaas.routing.score import scores
from prfaas.routing.snapshot import EngineState, FleetSnapshot, LinkState, RequestFeatures

UNPREDICTED = -1e6
"""Cost of an engine of which nothing is predicted: before all others, in the order of the scores, so that something
becomes known of it. That more load never makes a remote prefill more likely depends on it, too."""


class Case(msgspec.Struct, frozen=True, gc=False):
    """A request, the fleet and the policy.

    Attributes:
        tokens: length of the prompt, 0 when unknown.
        slo_s: the objective for the first token, None for none.
    """

    features: RequestFeatures
    fleet: FleetSnapshot
    policy: Policy
    tokens: int
    slo_s: float | None

    @property
    def is_predictive(self) -> bool:
        return self.policy.name == "predictive"

    def hit(self, engine: EngineState) -> int:
        """Tokens that the engine reuses. The last one is always computed, for its output."""
        hit = self.features.hits.get(engine.name, 0)
        return max(0, min(hit, self.tokens - 1)) if hit else 0

    def hits(self, engines: Sequence[EngineState]) -> list[int]:
        """The same for many."""
        return [self.hit(engine) for engine in engines] if self.features.hits else [0] * len(engines)

    def predicted_s(self, engine: EngineState, hit: int, path: Path | None = None) -> float | None:
        """When the first token comes if ``engine`` prefills, handing over along ``path`` if there is one."""
        return first_token_s(engine, self.tokens, hit, path) if self.tokens else None

    def costs(
        self,
        engines: Sequence[EngineState],
        hits: Sequence[int],
        times_s: Sequence[float | None] | None,
        links: Sequence[LinkState] | None = None,
    ) -> list[float]:
        """What the choice between prefill engines minimises: the prediction, or without one the score turned round."""
        costs = [UNPREDICTED - each for each in scores(engines, hits, self.tokens, self.policy.weights, links)]
        if times_s is None or not self.is_predictive:
            return costs
        return [cost if time_s is None else time_s for cost, time_s in zip(costs, times_s, strict=True)]

    def transfer_bytes(self, held_tokens: int) -> int | None:
        """What crosses to a decode engine that holds so many tokens, None when the cache's size is unknown."""
        cache = self.fleet.cache
        return None if cache is None else round(cache.row_bytes(self.tokens - held_tokens) + cache.state_bytes)

    def alone(self, engine: EngineState) -> Candidate:
        """The decode engine prefills, too."""
        hit = self.hit(engine)
        uncached = self.tokens - hit if self.tokens else None
        return Candidate(engine.name, None, False, uncached, None, self.predicted_s(engine, hit), engine.speed)
