"""What an operator, or the planner, sets about placement."""

from dataclasses import dataclass
from typing import Literal

PolicyName = Literal["threshold", "predictive"]


@dataclass(frozen=True, slots=True)
class Weights:
    """How much each scorer counts in the choice of an engine; scores are in [0, 1], and 0 switches a scorer off.

    Attributes:
        prefix: share of the prompt that the engine has cached.
        load: how few requests it has.
        queue: how few tokens wait for their prefill there.
        link: how idle the link from its site is.
    """

    prefix: float = 2.0
    load: float = 1.0
    queue: float = 1.0
    link: float = 1.0


@dataclass(frozen=True, slots=True)
class BrownOut:
    """When a long prompt that no other engine can prefill is refused rather than recomputed beside running answers.

    Attributes:
        decode_load: from this fill of the decode batch on, None for never.
        waiting_tokens: from so many tokens on that wait there for their prefill, None for never.
    """

    decode_load: float | None = 0.95
    waiting_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of placement.

    Attributes:
        name: ``threshold`` compares the uncached length with t; ``predictive`` compares predicted times to the first
            token, and leaves to the threshold what it cannot predict.
        threshold_tokens: t; with either policy no prompt goes remote of which the site has to compute no more.
        scarce_threshold_tokens: t while the link is scarce, None for no other.
        margin: the share by which a remote prefill's prediction has to beat the best local one (``predictive``).
        slo_first_token_s: the objective for the first token, None for none.
        hand_over_min_tokens: a decode engine computes so many uncached tokens itself, rather than take them from a
            prefill engine of its site.
        hand_over_s: what a transfer costs besides its bytes and round trips: dialing, verifying, injecting.
    """

    name: PolicyName = "threshold"
    threshold_tokens: int = 512
    scarce_threshold_tokens: int | None = None
    margin: float = 0.1
    slo_first_token_s: float | None = None
    hand_over_min_tokens: int = 128
    hand_over_s: float = 0.02
    weights: Weights = Weights()
    brown_out: BrownOut = BrownOut()

    @property
    def few_tokens(self) -> int:
        """So many uncached tokens are no reason for a hand-over in the site; one is computed here in any case."""
        return max(self.hand_over_min_tokens, 1)

    def threshold_for(self, *, is_scarce: bool) -> int:
        """t of a link; scarcity never lowers it."""
        if not is_scarce or self.scarce_threshold_tokens is None:
            return self.threshold_tokens
        return max(self.threshold_tokens, self.scarce_threshold_tokens)
