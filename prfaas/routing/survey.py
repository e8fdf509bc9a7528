"""Which engines a decision has to choose from: one pass over the fleet, before anything is weighed."""

import msgspec

from prfaas.routing.snapshot import EngineState, FleetSnapshot


class Survey(msgspec.Struct, frozen=True, gc=False):
    """The engines that take the request; those that drain, whose breaker is open or that are known to lack its adapter
    are in no list.

    Attributes:
        decoders: decode engines of the site: the healthy ones with room, else the healthy ones (they queue), else those
            of which nothing good is known, because that knowledge may be stale.
        are_doubtful: ``decoders`` are of the last kind.
        prefillers: healthy engines of the site with room that only prefill.
        elsewhere: healthy engines of other sites with room that can prefill.
    """

    decoders: list[EngineState]
    are_doubtful: bool
    prefillers: list[EngineState]
    elsewhere: list[EngineState]


def survey_of(fleet: FleetSnapshot, adapter: str | None = None) -> Survey:
    """Sort the engines into those lists, in the snapshot's order, for a request with this adapter."""
    site = fleet.site
    free: list[EngineState] = []
    full: list[EngineState] = []
    doubtful: list[EngineState] = []
    prefillers: list[EngineState] = []
    elsewhere: list[EngineState] = []
    for engine in fleet.engines:
        if engine.is_draining or engine.is_broken or (adapter is not None and lacks(engine, adapter)):
            continue
        is_free = engine.is_healthy and (engine.capacity is None or engine.inflight < engine.capacity)
        if engine.site != site:
            if is_free and engine.can_prefill:
                elsewhere.append(engine)
        elif engine.can_decode:
            (free if is_free else full if engine.is_healthy else doubtful).append(engine)
        elif is_free and engine.can_prefill:
            prefillers.append(engine)
    decoders = free or full or doubtful
    return Survey(decoders, not (free or full), prefillers, elsewhere)


def lacks(engine: EngineState, adapter: str | None) -> bool:
    """Whether the engine is known to lack the adapter that a request needs."""
    return adapter is not None and engine.adapters is not None and adapter not in engine.adapters
