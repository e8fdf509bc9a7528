"""What the kept decisions amount to. Pure."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from prfaas.gateway.status.document import Recent
from prfaas.observe.decisions import Decision


@dataclass(slots=True)
class Reuse:
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


def reuse_by_engine(decisions: Iterable[Decision]) -> Mapping[str, Reuse]:
    """By the engine that was to prefill. An engine of which none was asked is absent."""
    found: defaultdict[str, Reuse] = defaultdict(Reuse)
    for each in decisions:
        if each.outcome != "refused":
            found[each.prefill or each.decode].add(each)
    return found


def recent_of(decisions: Sequence[Decision], capacity: int) -> Recent:
    """All of them together; ``decisions`` are the latest first."""
    reuse = Reuse()
    for each in decisions:
        reuse.add(each)
    used = [each.report for each in decisions if each.outcome == "remote" and each.report and each.report.ok]
    first_s = sorted(each.first_output_s for each in decisions if each.is_stream and each.first_output_s is not None)
    arrivals = [each.arrived_unix_s for each in decisions if each.arrived_unix_s]
    return Recent(
        requests=len(decisions),
        capacity=capacity,
        since_unix_s=min(arrivals, default=None),
        outcomes=dict(Counter(each.outcome for each in decisions)),
        prompt_tokens=reuse.prompt_tokens,
        reused_tokens=reuse.reused_tokens,
        remote_tokens=sum(each.tokens for each in used),
        cache_bytes=sum(each.cache_bytes for each in used),
        early_bytes=sum(each.early_bytes for each in used),
        first_output_p50_s=quantile(first_s, 0.5),
        first_output_p95_s=quantile(first_s, 0.95),
    )


def quantile(ascending: Sequence[float], share: float) -> float | None:
    """The smallest value that at least this share of all does not exceed; None of none."""
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)] if ascending else None
