"""The work that a gateway does by itself: it watches engines and links, those of the configuration of now."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from prfaas.fleet.prober import HealthProber
from prfaas.gateway.link_watch import LinkWatch
from prfaas.gateway.live import Live
from prfaas.gateway.prefix_watch import PrefixWatch, feeds_of
from prfaas.gateway.services import GatewayServices
from prfaas.gateway.watch import EngineWatch

log = logging.getLogger(__name__)


def begin(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """Begin work that ends with its owner alone. If it ends before, by a bug of ours, that is logged where it happened:
    what it watches stays for ever as it was last seen."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_log_end)
    return task


def _log_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        log.error("%s has ended: restart the gateway", task.get_name(), exc_info=task.exception())


async def watch_fleet(live: Live) -> None:
    """Watch until cancelled. When the services are swapped, probes and questions begin anew, so that new engines are
    asked at once; feeds of engines that stay go on."""
    prefixes = PrefixWatch(live.now.prefixes.index, live.now.metrics.feeds)
    try:
        while True:
            services = live.now
            await prefixes.keep(services.reports.prefixes, feeds_of(services.config))
            prober, links = _watches(services)
            watching = [begin(prober.run(), "probing engines"), begin(links.run(), "asking for links")]
            try:
                await live.swapped(services)
            finally:
                for task in watching:
                    task.cancel()
                await asyncio.gather(*watching, return_exceptions=True)
                for name in services.config.engines.keys() - live.now.config.engines.keys():
                    live.now.metrics.forget(name)  # what it answered after it was taken out of the configuration
    finally:
        await prefixes.aclose()


def _watches(services: GatewayServices) -> tuple[HealthProber, LinkWatch]:
    urls = {name: engine.url for name, engine in services.config.engines.items()}
    probe = EngineWatch(services).probe
    return HealthProber(services.fleet, probe, urls, interval_s=services.probe_interval_s), LinkWatch(services)
