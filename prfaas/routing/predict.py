"""Predicted seconds to the first token.

    prefilled  = queue at the engine + prefill of the uncached part
    rows there = max(queue at the engine, queue on the link) + rows / free rate of the link
    handed over = max(prefilled, rows there) + recurrent state / free rate + round trip + fixed cost

Rows leave while the prefill goes on, so the longer of both counts; the recurrent state is known only at its end. All
of it grows with every queue and shrinks with every rate: more load never makes a prediction shorter.
"""

import msgspec

from prfaas.routing.figures import CacheSize
from prfaas.routing.snapshot import EngineState, LinkState

MIN_FREE_SHARE = 0.1
"""TCP gives a new transfer some of a full link, at the cost of those that fill it."""


class Path(msgspec.Struct, frozen=True, gc=False):
    """What a transfer meets on its way, the same for all prefill engines of a site; seconds."""

    ahead_s: float = 0.0
    rows_s: float = 0.0
    end_s: float = 0.0


def path_of(link: LinkState, cache: CacheSize | None, missing_tokens: int, hand_over_s: float) -> Path:
    """For a cache of which the decode engine lacks ``missing_tokens`` tokens; without ``cache`` bytes cost no time."""
    if cache is None:
        return Path(end_s=link.rtt_s + hand_over_s)
    rate = link.goodput_bytes_s or link.bandwidth_bytes_s
    free_rate = rate * max(1.0 - link.utilisation, MIN_FREE_SHARE)
    return Path(
        ahead_s=link.queued_bytes / rate,
        rows_s=cache.row_bytes(missing_tokens) / free_rate,
        end_s=cache.state_bytes / free_rate + link.rtt_s + hand_over_s,
    )


def first_token_s(engine: EngineState, tokens: int, hit: int, path: Path | None = None) -> float | None:
    """When ``engine`` prefills a prompt of ``tokens`` of which it has ``hit`` cached, and hands over along ``path`` if
    one is given. None when it is not known how fast the engine is."""
    rate = engine.prefill
    if rate is None:
        return None
    queue_s = rate.queue_seconds(engine.waiting_tokens)
    prefilled_s = queue_s + rate.seconds(tokens - hit, hit)
    if path is None:
        return prefilled_s
    rows_there_s = (queue_s if queue_s > path.ahead_s else path.ahead_s) + path.rows_s
    return (prefilled_s if prefilled_s > rows_there_s else rows_there_s) + path.end_s
