"""How hard requests press on both sides now: what the short term looks at."""

from collections.abc import Iterable
from dataclasses import dataclass

from prfaas.planner.controller.stock import Stock
from prfaas.routing.snapshot import EngineState


@dataclass(frozen=True, slots=True)
class Pressure:
    """Utilisation of the links, and seconds of waiting.

    Attributes:
        link_utilisation: of what the links carry now, all together; 0 without a link.
        link_s: until the caches that are made have crossed.
        remote_s: until the prompts that the remote engines have are prefilled, on average over the engines.
        local_s: the same of the local engines that prefill.
    """

    link_utilisation: float
    link_s: float
    remote_s: float
    local_s: float

    @property
    def away_s(self) -> float:
        """What a remote prefill would wait; rows leave while others are computed, so the longer of both counts."""
        return max(self.link_s, self.remote_s)


def pressure_of(stock: Stock, local_s_per_token: float, remote_s_per_token: float) -> Pressure:
    """With the seconds that a token's prefill takes on each side, on average over the prompts that go there."""
    capacity = stock.capacity_bytes_s
    used = sum(source.link.utilisation * source.link.bandwidth_bytes_s for source in stock.sources)
    queued = sum(source.link.queued_bytes for source in stock.sources)
    return Pressure(
        used / capacity if capacity else 0.0,
        queued / capacity if capacity else 0.0,
        _mean_waiting(stock.remote) * remote_s_per_token,
        _mean_waiting(stock.prefillers) * local_s_per_token,
    )


def _mean_waiting(engines: Iterable[EngineState]) -> float:
    waiting = [engine.waiting_tokens for engine in engines]
    return sum(waiting) / len(waiting) if waiting else 0.0
