"""What the answers show: one line per question, and one summary. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prfaas.launch.demo.ask import Answer
from prfaas.launch.demo.evidence import Evidence

MAX_LOGPROB_DIFF = 0.25
"""Rounding alone stays below 0.05 on the tiny models; five times that is a cache that is wrong somewhere."""


@dataclass(frozen=True)
class Comparison:
    """One question answered twice: through the gateway, and on the edge engine alone.

    Attributes:
        stream: whether the answers were streamed.
        evidence: what the gateway did.
        first_token_s, alone_s: time to the first token (whole answer if not streamed), through the gateway and alone.
        tokens_equal: whether both answers have the same tokens.
        logprob_diff: the largest difference between the logprobs of equal tokens.
        tie: at the first different token, the edge engine's lead of its token over the runner-up: a lead not larger
            than the usual logprob difference means that rounding decided. None when no token differs.
    """

    stream: bool
    evidence: Evidence
    first_token_s: float
    alone_s: float
    tokens_equal: bool
    logprob_diff: float
    tie: float | None

    def is_long(self, threshold_tokens: int) -> bool:
        """Whether the policy wants a remote prefill for it."""
        return (self.evidence.prompt_tokens or 0) > threshold_tokens

    @property
    def is_remote(self) -> bool:
        """Whether the remote cache was really used."""
        return self.evidence.outcome == "remote"


def compare(stream: bool, through_gateway: Answer, alone: Answer, evidence: Evidence) -> Comparison:
    """Put two answers side by side. Two answers without tokens are not equal: nothing was shown."""
    return Comparison(
        stream=stream,
        evidence=evidence,
        first_token_s=through_gateway.first_token_s,
        alone_s=alone.first_token_s,
        tokens_equal=bool(alone.tokens) and through_gateway.tokens == alone.tokens,
        logprob_diff=_largest_difference(through_gateway, alone),
        tie=_lead_at_divergence(through_gateway, alone),
    )


def _largest_difference(one: Answer, other: Answer) -> float:
    """Over the tokens up to the first that differs; after it the two answers have different contexts."""
    largest = 0.0
    pairs = zip(one.tokens, other.tokens, one.logprobs, other.logprobs, strict=False)
    for token, other_token, logprob, other_logprob in pairs:
        if token != other_token:
            break
        largest = max(largest, abs(logprob - other_logprob))
    return largest


def _lead_at_divergence(one: Answer, other: Answer) -> float | None:
    pairs = zip(one.tokens, other.tokens, other.leads, strict=False)
    return next((lead for token, other_token, lead in pairs if token != other_token), None)


def summarize(comparisons: Sequence[Comparison], threshold_tokens: int) -> dict[str, Any]:
    """The last line of the demo: counts and the worst case, ready for JSON."""
    remote = [each for each in comparisons if each.is_remote]
    kv_bytes = sum(each.evidence.cache_bytes for each in remote)
    early_bytes = sum(each.evidence.early_bytes for each in remote)
    return {
        "requests": len(comparisons),
        "long": sum(each.is_long(threshold_tokens) for each in comparisons),
        "remote": len(remote),
        "recomputed": sum(each.evidence.outcome == "recomputed" for each in comparisons),
        "unknown": sum(each.evidence.outcome == "unknown" for each in comparisons),
        "exact": all(each.tokens_equal for each in comparisons),
        "ties": [round(each.tie, 4) for each in comparisons if each.tie is not None],
        "max_logprob_diff": max((each.logprob_diff for each in comparisons), default=0.0),
        "kv_bytes": kv_bytes,
        "early_share": round(early_bytes / kv_bytes, 4) if kv_bytes else 0.0,
    }


def is_success(comparisons: Sequence[Comparison], threshold_tokens: int) -> bool:
    """Whether every answer was exact up to rounding, every long prompt was prefilled remotely, and no short one was; a
    demo without a remote prefill has shown nothing."""
    return any(each.is_remote for each in comparisons) and all(
        each.tokens_equal and each.logprob_diff <= MAX_LOGPROB_DIFF and each.is_remote == each.is_long(threshold_tokens)
        for each in comparisons
    )
