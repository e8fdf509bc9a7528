"""The size of the model's cache, learnt from transfers: bytes = bytes_per_token * tokens + state_bytes."""

from dataclasses import dataclass

FORGETTING = 0.99
"""Share of its weight that a transfer keeps with each further one: about the last hundred count, so that another
compression or layout is learnt within minutes of traffic."""
MIN_SPREAD = 0.05
"""Lengths that differ by less, as a share of their mean, cannot tell the two parts apart."""


@dataclass(frozen=True, slots=True)
class CacheFit:
    """Weighted sums over transfers; a least-squares line through them gives both parts."""

    weight: float = 0.0
    tokens: float = 0.0
    size: float = 0.0
    tokens2: float = 0.0
    tokens_size: float = 0.0

    def add(self, tokens: int, size: int) -> "CacheFit":
        """With one more transfer of so many ``tokens`` (positive) and bytes."""
        return CacheFit(
            weight=self.weight * FORGETTING + 1,
            tokens=self.tokens * FORGETTING + tokens,
            size=self.size * FORGETTING + size,
            tokens2=self.tokens2 * FORGETTING + tokens * tokens,
            tokens_size=self.tokens_size * FORGETTING + tokens * size,
        )

    def parts(self) -> tuple[float, float] | None:
        """Bytes per token and bytes of state, neither negative; None before the first transfer. Transfers of about one
        length give a straight line through nothing: right for that length."""
        if not self.weight:
            return None
        mean_tokens, mean_size = self.tokens / self.weight, self.size / self.weight
        variance = self.tokens2 / self.weight - mean_tokens**2
        if variance < (MIN_SPREAD * mean_tokens) ** 2:
            return mean_size / mean_tokens, 0.0
        slope = (self.tokens_size / self.weight - mean_tokens * mean_size) / variance
        slope = min(max(slope, 0.0), mean_size / mean_tokens)
        return slope, mean_size - slope * mean_tokens
