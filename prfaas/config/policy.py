"""The policy section: when a request is prefilled where; docs/routing.md explains every key."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from prfaas.config.base import Section

Tokens = Annotated[int, Field(ge=0)]
Weight = Annotated[float, Field(ge=0, le=1_000)]
Share = Annotated[float, Field(gt=0, le=1)]


class ScarcityConfig(Section):
    """When a link's bandwidth counts as scarce: from one utilisation on, until it falls below another."""

    enter_utilisation: Share = 0.8
    leave_utilisation: Share = 0.6

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.leave_utilisation > self.enter_utilisation:
            raise ValueError("leave_utilisation must not be above enter_utilisation")
        return self


class WeightsConfig(Section):
    """How much each scorer counts when an engine is chosen; 0 switches one off."""

    prefix: Weight = 2
    load: Weight = 1
    queue: Weight = 1
    link: Weight = 1


class BrownOutConfig(Section):
    """When a long prompt that only a busy decode engine could prefill is refused."""

    decode_load: Annotated[
        float | None, Field(gt=0, le=1, description="Share of max_requests that run; null for never.")
    ] = 0.95
    waiting_tokens: Annotated[
        int | None, Field(ge=1, description="Uncached prompt tokens that wait for the engine; null for never.")
    ] = None


class CacheConfig(Section):
    """The model's cache on the wire, to predict the time of transfers; without it learnt from them."""

    bytes_per_token: Annotated[float, Field(ge=0, description="All attention layers together.")]
    state_bytes: Annotated[float, Field(ge=0, description="All recurrent layers together, whatever the length.")] = 0


class PolicyConfig(Section):
    """When a request is prefilled remotely, and how long its cache may take to arrive."""

    name: Literal["threshold", "predictive"] = "threshold"
    threshold_tokens: Tokens = 512
    scarce_threshold_tokens: Annotated[
        Tokens | None, Field(description="Takes the place of threshold_tokens while the link is scarce, if larger.")
    ] = None
    scarcity: ScarcityConfig = ScarcityConfig()
    margin: Annotated[
        float, Field(ge=0, lt=1, description="The share by which a remote prefill must be predicted to be sooner.")
    ] = 0.1
    slo_first_token_s: Annotated[
        float | None, Field(gt=0, description="A remote prefill that is predicted to miss it is not begun.")
    ] = None
    hand_over_min_tokens: Annotated[
        Tokens,
        Field(description="So few a decode engine computes itself, beside prefill engines of its site."),
    ] = 128
    weights: WeightsConfig = WeightsConfig()
    brown_out: BrownOutConfig = BrownOutConfig()
    cache: CacheConfig | None = None
    # Engines refuse to hold a cache any longer, and then prefill for nothing (MAX_TIMEOUT_S of the connector).
    remote_timeout_s: Annotated[float, Field(gt=0, le=3_600)] = 60
    # A saturated engine takes seconds to its next step with a new request in it; half a minute is beyond load.
    first_output_patience_s: Annotated[
        float,
        Field(
            gt=0, le=3_600, description="So long an engine that has all it needs may be silent; then another answers."
        ),
    ] = 30


class PrefillConfig(Section):
    """How fast an engine prefills: seconds for l uncached tokens, fixed_s + s_per_token * l + s_per_token2 * l**2."""

    fixed_s: Annotated[float, Field(ge=0)] = 0
    s_per_token: Annotated[float, Field(gt=0)]
    s_per_token2: Annotated[float, Field(ge=0)] = 0
