"""What an operator may set about the controller; every default is for engines that prefill a prompt in seconds."""

from dataclasses import dataclass

from prfaas.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ControllerSettings:
    """The rules. Seconds, tokens, and shares in [0, 1] unless it says otherwise.

    Attributes:
        recent_half_life_s: after so long a request counts half in the recent arrival rate.
        half_life_s: the same in the arrival rate, the lengths and the outputs that plans are made for.
        min_requests: nothing is planned before so many arrived.
        min_answers: no engine is converted before so many answers ended: until then nobody knows how much is decoded.
        plan_interval_s: how often t and the division are planned anew; at once when engines or sites come or go.
        threshold_margin: a new t has to let through so much more.
        min_threshold_tokens: t is never below.
        max_threshold_tokens: nor above, None for no bound; whether anything goes remote at all is not bounded.
        link_share: of what a link carries is planned with.
        link_smoothing_s: half-life of the mean of the links' utilisation: several transfers, for each fills a link.
        link_high: from this utilisation on t rises, a step every ``step_s``.
        link_low: below this one it falls back, a step every ``relax_s``.
        step: by which t is multiplied, above 1.
        step_s: how often t may rise.
        relax_s: how often it may fall back.
        queue_scale: t moves a step for every so many mean prefills that one side waits longer than the other.
        max_steps: t is moved from the planned one by no more.
        return_s: a remote site that was lost is used again after so long without a fault.
        target_utilisation: a division is wanted that serves the demand with no stage busier.
        conversion_margin: it has to serve so much more of that than the present one.
        confirm_s: and has to be wanted for so long.
        dwell_s: between two conversions at least.
        reversal_s: between two in opposite directions at least.
        conversion_s: how long an engine is expected to serve nobody while it is converted.
        horizon_s: for how long a gain is expected to last; it has to outweigh what is lost while engines drain.
        max_conversions_per_hour: in any hour.
        min_prefill_engines: of the local site's; engines that do both count.
        min_decode_engines: the same; at least 1.
        follow_s: an advised conversion that has not begun after so long was not followed, and is not said again before
            ``reversal_s``.

    Raises:
        ConfigError: figures that cannot be right.
    """

    recent_half_life_s: float = 20.0
    half_life_s: float = 300.0
    min_requests: int = 50
    min_answers: int = 20
    plan_interval_s: float = 15.0
    threshold_margin: float = 0.03
    min_threshold_tokens: int = 0
    max_threshold_tokens: int | None = None
    link_share: float = 0.9
    link_smoothing_s: float = 20.0
    link_high: float = 0.95
    link_low: float = 0.8
    step: float = 1.25
    step_s: float = 10.0
    relax_s: float = 20.0
    queue_scale: float = 0.75
    max_steps: int = 8
    return_s: float = 10.0
    target_utilisation: float = 0.8
    conversion_margin: float = 0.05
    confirm_s: float = 10.0
    dwell_s: float = 60.0
    reversal_s: float = 600.0
    conversion_s: float = 30.0
    horizon_s: float = 900.0
    max_conversions_per_hour: int = 8
    min_prefill_engines: int = 1
    min_decode_engines: int = 1
    follow_s: float = 60.0

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"controller.{name}: {getattr(self, name):g}: has to be above 0")
        for name in ("link_share", "link_high", "link_low", "target_utilisation"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"controller.{name}: {getattr(self, name):g}: has to be above 0 and at most 1")
        for name in _NOT_NEGATIVE:
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"controller.{name}: {getattr(self, name):g}: has to be 0 or more")
        if self.link_low > self.link_high:
            raise ConfigError(f"controller.link_low: {self.link_low:g}: above link_high, {self.link_high:g}")
        if self.step <= 1:
            raise ConfigError(f"controller.step: {self.step:g}: has to be above 1, or t does not move")
        if self.min_decode_engines < 1:
            raise ConfigError("controller.min_decode_engines: 0: without a decode engine nothing is answered")
        if self.max_threshold_tokens is not None and self.max_threshold_tokens < self.min_threshold_tokens:
            raise ConfigError(
                f"controller.max_threshold_tokens: {self.max_threshold_tokens}: below min_threshold_tokens, "
                f"{self.min_threshold_tokens}"
            )


_POSITIVE = (
    *("recent_half_life_s", "half_life_s", "plan_interval_s", "step_s", "relax_s", "queue_scale"),
    *("conversion_s", "horizon_s", "follow_s", "link_smoothing_s"),
)
_NOT_NEGATIVE = (
    *("min_requests", "min_answers", "threshold_margin", "min_threshold_tokens", "max_steps", "return_s"),
    *("conversion_margin", "confirm_s", "dwell_s", "reversal_s", "max_conversions_per_hour", "min_prefill_engines"),
)
