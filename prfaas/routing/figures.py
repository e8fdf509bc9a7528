"""What predictions are made of: how fast an engine prefills, and how large a cache is."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class PrefillRate:
    """Seconds that an engine takes for a prompt: fixed + linear + quadratic part, the last one for attention.

    Attributes:
        source: how this is known.
    """

    fixed_s: float
    s_per_token: float
    s_per_token2: float = 0.0
    source: Literal["configured", "measured"] = "configured"

    def seconds(self, tokens: int, context: int) -> float:
        """For ``tokens`` uncached tokens that follow ``context`` cached ones, with nothing waiting before them."""
        end = context + tokens
        return self.fixed_s + self.s_per_token * tokens + self.s_per_token2 * (end * end - context * context)

    def queue_seconds(self, waiting_tokens: int) -> float:
        """Until ``waiting_tokens`` are prefilled. How they divide into prompts is not known, so the part that grows
        with a prompt's length is left out: a little too short for few long prompts."""
        return self.fixed_s + self.s_per_token * waiting_tokens if waiting_tokens else 0.0


@dataclass(frozen=True, slots=True)
class CacheSize:
    """Bytes of a request's cache on the wire.

    Attributes:
        bytes_per_token: of all attention layers; only tokens that the decode engine lacks cross.
        state_bytes: of all recurrent layers; cross once, whatever the length, when the prefill has ended.
    """

    bytes_per_token: float
    state_bytes: float = 0.0

    def row_bytes(self, tokens: int) -> float:
        """Of the attention KV of so many tokens."""
        return self.bytes_per_token * tokens
