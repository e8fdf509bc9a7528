"""Small fleets to decide on."""

from typing import Any

from msgspec.structs import replace

from prfaas.routing.figures import CacheSize, PrefillRate
from prfaas.routing.placement import Placement, Refusal
from prfaas.routing.snapshot import EngineState, FleetSnapshot, LinkState, RequestFeatures

LONG = RequestFeatures(prompt_tokens=513)
SLOW, FAST = PrefillRate(0.5, 1e-3), PrefillRate(0.1, 1e-4)
CACHE = CacheSize(bytes_per_token=1_000, state_bytes=1_000_000)


def decoder(name: str = "edge-0", **fields: Any) -> EngineState:
    """An engine of the gateway's site that decodes and prefills."""
    return replace(EngineState(name, "edge", can_prefill=True, can_decode=True, is_healthy=True), **fields)


def neighbour(name: str = "edge-p", **fields: Any) -> EngineState:
    """An engine of that site that only prefills."""
    return decoder(name, **{"can_decode": False, **fields})


def prefiller(name: str = "cloud-0", **fields: Any) -> EngineState:
    """A prefill engine of another site."""
    return replace(EngineState(name, "cloud", can_prefill=True, can_decode=False, is_healthy=True), **fields)


def link(source: str = "cloud", target: str = "edge", **fields: Any) -> LinkState:
    """An idle link of 100 MB/s."""
    return replace(LinkState(source, target, bandwidth_bytes_s=1e8), **fields)


def fleet(
    *engines: EngineState, links: tuple[LinkState, ...] = (link(),), turn: int = 0, cache: CacheSize | None = None
) -> FleetSnapshot:
    return FleetSnapshot("edge", engines, links, turn, cache)


def placed(decision: Placement | Refusal) -> Placement:
    """The decision, which has to be a placement."""
    assert isinstance(decision, Placement), decision
    return decision


def engines_of(placement: Placement) -> tuple[str, str, str | None]:
    return placement.kind, placement.decode, placement.prefill
