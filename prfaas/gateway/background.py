"""The work that a gateway does by itself: it watches engines and links, those of the configuration of now."""

import asyncio

from prfaas.fleet.prober import HealthProber
from prfaas.gateway.link_watch import LinkWatch
from prfaas.gateway.live import Live
from prfaas.gateway.prefix_watch import PrefixWatch, feeds_of
from prfaas.gateway.services import GatewayServices
from prfaas.gateway.watch import EngineWatch


async def watch_fleet(live: Live) -> None:
    """Watch until cancelled. When the services are swapped, probes and questions begin anew, so that new engines are
    asked at once; feeds of engines that stay go on."""
    prefixes = PrefixWatch(live.now.prefixes.index, live.now.metrics.feeds)
    try:
        while True:
            services = live.now
            await prefixes.keep(services.reports.prefixes, feeds_of(services.config))
            watching = [asyncio.create_task(each.run()) for each in _watches(services)]
            try:
                await live.swapped(services)
            finally:
                for task in watching:
                    task.cancel()
                await asyncio.gather(*watching, return_exceptions=True)
    finally:
        await prefixes.aclose()


def _watches(services: GatewayServices) -> tuple[HealthProber, LinkWatch]:
    urls = {name: engine.url for name, engine in services.config.engines.items()}
    probe = EngineWatch(services).probe
    return HealthProber(services.fleet, probe, urls, interval_s=services.probe_interval_s), LinkWatch(services)
