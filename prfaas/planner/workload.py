"""What is asked of a fleet: lengths of prompts and outputs, and how fast the answers have to come."""

import math
from dataclasses import dataclass

from prfaas.errors import ConfigError
from prfaas.planner.lengths import Lengths


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests as the model sees them.

    Attributes:
        lengths: of the uncached tokens of prompts, L. Leave out what prefix hits save, or plan without hits.
        output_tokens: mean of the tokens of an answer, L_out.
    """

    lengths: Lengths
    output_tokens: float

    def __post_init__(self) -> None:
        if not 1 <= self.output_tokens < math.inf:
            raise ConfigError(f"output_tokens: {self.output_tokens:g}: has to be 1 or more: an answer has a token")


@dataclass(frozen=True, slots=True)
class Slo:
    """What users are promised.

    Attributes:
        token_s: most seconds between two tokens of an answer; 40 tokens a second are 0.025.
        first_token_p90_s: most seconds of the prefill of nine in ten requests, with nothing waiting before them; None
            for no such promise.
    """

    token_s: float
    first_token_p90_s: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.token_s < math.inf:
            raise ConfigError(f"token_s: {self.token_s:g}: has to be above 0")
        if self.first_token_p90_s is not None and not 0 < self.first_token_p90_s < math.inf:
            raise ConfigError(f"first_token_p90_s: {self.first_token_p90_s:g}: has to be above 0")
