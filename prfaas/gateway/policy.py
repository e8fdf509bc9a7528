"""The configuration's policy, in the values that placement works with."""

from prfaas.config import PolicyConfig
from prfaas.routing.figures import CacheSize
from prfaas.routing.policy import BrownOut, Policy, Weights
from prfaas.routing.scarcity import Scarcity


def policy_of(config: PolicyConfig) -> Policy:
    """The rules of placement."""
    weights, brown_out = config.weights, config.brown_out
    return Policy(
        name=config.name,
        threshold_tokens=config.threshold_tokens,
        scarce_threshold_tokens=config.scarce_threshold_tokens,
        margin=config.margin,
        slo_first_token_s=config.slo_first_token_s,
        hand_over_min_tokens=config.hand_over_min_tokens,
        weights=Weights(weights.prefix, weights.load, weights.queue, weights.link),
        brown_out=BrownOut(brown_out.decode_load, brown_out.waiting_tokens),
    )


def scarcity_of(config: PolicyConfig) -> Scarcity:
    """When a link is scarce."""
    return Scarcity(config.scarcity.enter_utilisation, config.scarcity.leave_utilisation)


def cache_of(config: PolicyConfig) -> CacheSize | None:
    """The model's cache, None where the file does not tell."""
    return CacheSize(config.cache.bytes_per_token, config.cache.state_bytes) if config.cache else None
