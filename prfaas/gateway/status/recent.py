"""What the kept decisions amount to, of one worker and of several. Pure."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from prfaas.observe.decisions import Decision


class Reuse(msgspec.Struct):
    """What was reused of prompts whose length and reuse are known."""

    requests: int = 0
    prompt_tokens: int = 0
    reused_tokens: int = 0

    def add(self, decision: Decision) -> None:
        """Count one more; a request whose reuse is not known counts as a request only."""
        self.requests += 1
        if decision.prompt_tokens is not None and decision.uncached_tokens is not None:
            self.prompt_tokens += decision.prompt_tokens
            self.reused_tokens += max(0, decision.prompt_tokens - decision.uncached_tokens)

    def __add__(self, other: "Reuse") -> "Reuse":
        return Reuse(
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.reused_tokens + other.reused_tokens,
        )


class Kept(msgspec.Struct, frozen=True):
    """The kept decisions; ``status.document.Recent`` says what the fields mean.

    Attributes:
        reuse: of all of them.
        by_engine: by the engine that was to prefill.
        first_output_s: of streamed answers, ascending.
    """

    capacity: int
    since_unix_s: float | None
    outcomes: dict[str, int]
    reuse: Reuse
    by_engine: dict[str, Reuse]
    remote_tokens: int
    cache_bytes: int
    early_bytes: int
    first_output_s: list[float]


def kept_of(decisions: Sequence[Decision], capacity: int) -> Kept:
    """Those of one worker."""
    reuse = Reuse()
    for each in decisions:
        reuse.add(each)
    used = [each.report for each in decisions if each.outcome == "remote" and each.report and each.report.ok]
    return Kept(
        capacity=capacity,
        since_unix_s=min((each.arrived_unix_s for each in decisions if each.arrived_unix_s), default=None),
        outcomes=dict(Counter(each.outcome for each in decisions)),
        reuse=reuse,
        by_engine=dict(reuse_by_engine(decisions)),
        remote_tokens=sum(each.tokens for each in used),
        cache_bytes=sum(each.cache_bytes for each in used),
        early_bytes=sum(each.early_bytes for each in used),
        first_output_s=sorted(
            each.first_output_s for each in decisions if each.is_stream and each.first_output_s is not None
        ),
    )


def kept_together(parts: Sequence[Kept]) -> Kept:
    """Those of several."""
    outcomes: Counter[str] = Counter()
    by_engine: defaultdict[str, Reuse] = defaultdict(Reuse)
    for part in parts:
        outcomes.update(part.outcomes)
        for engine, reuse in part.by_engine.items():
            by_engine[engine] += reuse
    return Kept(
        capacity=sum(part.capacity for part in parts),
        since_unix_s=min((part.since_unix_s for part in parts if part.since_unix_s is not None), default=None),
        outcomes=dict(outcomes),
        reuse=sum((part.reuse for part in parts), Reuse()),
        by_engine=dict(by_engine),
        remote_tokens=sum(part.remote_tokens for part in parts),
        cache_bytes=sum(part.cache_bytes for part in parts),
        early_bytes=sum(part.early_bytes for part in parts),
        first_output_s=sorted(each for part in parts for each in part.first_output_s),
    )


def reuse_by_engine(decisions: Iterable[Decision]) -> Mapping[str, Reuse]:
    """By the engine that was to prefill. An engine of which none was asked is absent."""
    found: defaultdict[str, Reuse] = defaultdict(Reuse)
    for each in decisions:
        if each.outcome != "refused":
            found[each.prefill or each.decode].add(each)
    return found


def quantile(ascending: Sequence[float], share: float) -> float | None:
    """The smallest value that at least this share of all does not exceed; None of none."""
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)] if ascending else None
