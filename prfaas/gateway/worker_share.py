"""What one worker has of its gateway's load, and what several have together. Pure, but for a look at the services."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec

from prfaas.fleet.fleet import Link
from prfaas.gateway.services import GatewayServices
from prfaas.gateway.status.recent import Kept, kept_of, kept_together

Key = TypeVar("Key", bound=Hashable)


class EngineLoad(msgspec.Struct, frozen=True):
    """Of one engine; the fields are those of ``routing.snapshot.EngineState``.

    Attributes:
        is_drained: nobody of those whose load this is gives it new requests, because operators say so.
    """

    inflight: int = 0
    awaiting: int = 0
    waiting_tokens: int = 0
    is_drained: bool = False

    @property
    def is_over(self) -> bool:
        """It is drained, and has nothing more to do."""
        return self.is_drained and not self.inflight


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """The load of one worker, or of several.

    Attributes:
        engines: by name.
        links: requests whose cache is to cross, by source and target.
        running, max_running: requests past the gate.
        waiting, max_waiting: in line, by class, the highest first.
        arrival_requests_s: as the controller estimates it, None without one.
        kept: what the kept decisions amount to.
        workers: whose load it is.
        silent: workers whose load is missing.
    """

    engines: dict[str, EngineLoad]
    links: dict[Link, int]
    running: int
    max_running: int
    waiting: dict[str, int]
    max_waiting: dict[str, int]
    arrival_requests_s: float | None
    kept: Kept
    workers: int = 1
    silent: int = 0


def share_of(services: GatewayServices, arrival_requests_s: float | None) -> Share:
    """This worker's, now."""
    view, fleet, gate = services.view, services.fleet, services.access.gate
    return Share(
        engines={
            each.name: EngineLoad(
                each.inflight, each.awaiting, each.waiting_tokens, fleet.status(each.name).drained_s is not None
            )
            for each in view.look().engines
        },
        links={ends: view.requests_on(ends) for link in services.config.links for ends in [(link.source, link.target)]},
        running=gate.running,
        max_running=gate.max_running,
        waiting={name: gate.waiting(name) for name in gate.max_waiting},
        max_waiting=dict(gate.max_waiting),
        arrival_requests_s=arrival_requests_s,
        kept=kept_of(tuple(services.decisions), services.decisions.capacity),
    )


def together(own: Share, others: Sequence[Share], silent: int) -> Share:
    """All as one: engines, links and classes are those of ``own``. While somebody is silent no engine is drained."""
    shares = (own, *others)
    arrivals = [each.arrival_requests_s for each in shares if each.arrival_requests_s is not None]
    return Share(
        engines={
            name: _load_together([each.engines[name] for each in shares if name in each.engines], silent)
            for name in own.engines
        },
        links=_sums([each.links for each in shares], own.links),
        running=sum(each.running for each in shares),
        max_running=sum(each.max_running for each in shares),
        waiting=_sums([each.waiting for each in shares], own.waiting),
        max_waiting=_sums([each.max_waiting for each in shares], own.max_waiting),
        arrival_requests_s=sum(arrivals) if arrivals else None,
        kept=kept_together([each.kept for each in shares]),
        workers=len(shares),
        silent=silent,
    )


def _load_together(loads: Sequence[EngineLoad], silent: int) -> EngineLoad:
    return EngineLoad(
        inflight=sum(each.inflight for each in loads),
        awaiting=sum(each.awaiting for each in loads),
        waiting_tokens=sum(each.waiting_tokens for each in loads),
        is_drained=not silent and all(each.is_drained for each in loads),
    )


def _sums(counts: Sequence[Mapping[Key, int]], keys: Iterable[Key]) -> dict[Key, int]:
    return {key: sum(each.get(key, 0) for each in counts) for key in keys}
