"""The gauges of the fleet and of the gateway's own process, kept up to date whether anybody scrapes or not.

Of several workers one is scraped, and tells the sum of what all have written down: each has to do that by itself.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator

from prfaas.fleet.breaker import State
from prfaas.gateway.live import Live
from prfaas.gateway.services import GatewayServices
from prfaas.observe.engines import EngineFigures
from prfaas.observe.site_links import SiteLinkFigures
from prfaas.routing.snapshot import EngineState

log = logging.getLogger("prfaas.gateway")

LAG_EVERY_S = 0.1
"""Between two looks at the event loop's lag: often enough to meet a stall that a user feels, too seldom to cost."""
ENGINES_AT_ONCE = 32
"""One or two milliseconds' where the values go into the files of several workers."""
LOOKS_A_ROUND = 10
"""Gauges once a second: Prometheus hardly asks more often."""


class Vitals:
    """Belongs to one event loop."""

    def __init__(self, live: Live, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._live = live
        self._sleep = sleep

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.tell()
            except Exception:  # whatever it is: gauges of a second are worth less than all that follow
                log.exception("gauges could not be told")
            for _ in range(LOOKS_A_ROUND):
                clock = self._live.now.clock
                before_s = clock.now_s()
                await self._sleep(LAG_EVERY_S)
                self._live.now.metrics.process.note_lag(clock.now_s() - before_s - LAG_EVERY_S)

    async def tell(self) -> None:
        """Write down what is so now, some engines at a time: streams go on in between."""
        services = self._live.now
        metrics = services.metrics
        metrics.process.look()
        metrics.ready.set(int(is_ready(services)))
        measured = services.view.speeds.measured()
        metrics.site_links.note(_links(services))
        for told, engine in enumerate(services.view.look().engines, 1):
            metrics.engines.tell(engine.name, _figures(services, engine, measured.get(engine.name)))
            if told % ENGINES_AT_ONCE == 0:
                await asyncio.sleep(0)  # streams go on
                if self._live.now is not services:
                    return  # an engine that a reload has removed meanwhile would come back for good


def is_ready(services: GatewayServices) -> bool:
    """A local decode engine is well and takes new requests."""
    decoders = services.view.playing("decode")
    return any(each.is_healthy and not each.is_draining for each in services.fleet.statuses() if each.name in decoders)


def _figures(services: GatewayServices, engine: EngineState, prefill_tokens_s: float | None) -> EngineFigures:
    return EngineFigures(
        site=engine.site,
        roles=services.view.roles(engine.name),
        is_healthy=engine.is_healthy,
        is_draining=engine.is_draining,
        is_breaker_open=services.fleet.breakers.of(engine.name).state is State.OPEN,
        knowledge=services.prefixes.index.state(engine.name).knowledge,
        inflight=engine.inflight,
        waiting_tokens=engine.waiting_tokens,
        prefill_tokens_s=prefill_tokens_s,
    )


def _links(services: GatewayServices) -> Iterator[SiteLinkFigures]:
    links = services.view.links
    for link, crossed_bytes in zip(links.states(), links.crossed_bytes(), strict=True):
        yield SiteLinkFigures(
            source=link.source,
            target=link.target,
            crossed_bytes=crossed_bytes,
            bandwidth_bytes_s=link.bandwidth_bytes_s,
            goodput_bytes_s=link.goodput_bytes_s,
            utilisation=link.utilisation,
            queued_bytes=link.queued_bytes,
            rtt_s=link.rtt_s,
            is_congested=link.is_congested,
            is_scarce=link.is_scarce,
            is_breaker_open=services.fleet.link_breakers.of((link.source, link.target)).state is State.OPEN,
            budget_left_bytes=link.budget_left_bytes,
        )
