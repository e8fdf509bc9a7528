"""The section of the controller, which moves the threshold and converts engines; docs/planning.md explains it."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from prfaas.config.base import FilePath, Seconds, Section
from prfaas.config.policy import Share, Tokens

Mode = Literal["off", "shadow", "on"]
Engines = Annotated[int, Field(ge=0, le=100_000)]


def _word(value: object) -> object:
    """YAML reads a bare ``on`` or ``off`` as a truth value."""
    return ("off", "on")[value] if isinstance(value, bool) else value


class ProfilesConfig(Section):
    """Files with what engines were measured to do (docs/planning.md). Without one, what the gateway measures itself is
    used: that is the speed of prefills, and nothing of decode."""

    local: FilePath | None = None
    remote: FilePath | None = None


class ControllerConfig(Section):
    """Keeps the threshold, and the division of the convertible engines, near the best for what is asked now."""

    mode: Annotated[
        Mode,
        BeforeValidator(_word),
        Field(description="shadow says what it would do and why, on does it. /prfaas/plan shows either."),
    ] = "shadow"
    interval_s: Annotated[Seconds, Field(description="Between two looks at queues and links.")] = 1
    plan_interval_s: Annotated[Seconds, Field(description="Between two plans of threshold and division.")] = 15
    half_life_s: Annotated[
        Seconds, Field(description="After so long a request counts half in what plans are made for.")
    ] = 300
    min_requests: Annotated[int, Field(ge=1, description="Nothing is planned before so many have come.")] = 50
    min_answers: Annotated[int, Field(ge=1, description="Nor converted before so many answers have ended.")] = 20
    dwell_s: Annotated[Seconds, Field(description="Between two conversions at least.")] = 60
    reversal_s: Annotated[Seconds, Field(description="Between two in opposite directions at least.")] = 600
    conversion_s: Annotated[
        Seconds,
        Field(description="So long an engine is expected to serve nobody while it is converted: what that costs."),
    ] = 30
    max_conversions_per_hour: Annotated[int, Field(ge=0, le=1_000, description="0 converts nothing.")] = 8
    target_utilisation: Annotated[Share, Field(description="Of the busiest stage: more than this converts.")] = 0.8
    drain_timeout_s: Annotated[
        Seconds | None,
        Field(
            description="How long an engine may take to get idle; then it keeps its role. None: the request timeout."
        ),
    ] = None
    min_threshold_tokens: Tokens = 0
    max_threshold_tokens: Annotated[
        Tokens | None, Field(description="No t is above; that nothing goes remote is possible all the same.")
    ] = None
    min_prefill_engines: Annotated[Engines, Field(description="Of the gateway's site.")] = 1
    min_decode_engines: Annotated[Engines, Field(ge=1, description="Of the gateway's site.")] = 1
    slo_token_s: Annotated[
        float, Field(gt=0, le=60, description="Seconds a token may take: bounds the batches that a plan counts on.")
    ] = 0.05
    profiles: ProfilesConfig = ProfilesConfig()

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        highest = self.max_threshold_tokens
        if highest is not None and highest < self.min_threshold_tokens:
            raise ValueError(
                f"max_threshold_tokens {highest} is below min_threshold_tokens {self.min_threshold_tokens}"
            )
        if self.plan_interval_s < self.interval_s:
            raise ValueError(f"plan_interval_s {self.plan_interval_s:g} is shorter than interval_s {self.interval_s:g}")
        return self
