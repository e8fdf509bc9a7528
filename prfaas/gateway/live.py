"""The services as they are now, and how they follow a changed configuration."""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from prfaas.config import Config, tls_settings
from prfaas.errors import ConfigError
from prfaas.gateway.access.visit import Access
from prfaas.gateway.changes import Changes, changes_between
from prfaas.gateway.services import GatewayServices, ReportSource

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ConfigSource:
    """Where a running gateway reads its configuration again.

    Attributes:
        load: reads and checks it entirely; raises ConfigError.
        reports: makes a client to the movers of a configuration; of that it needs the certificates alone.
        env: the environment, where keys of tenants may be.
    """

    load: Callable[[], Config]
    reports: Callable[[Config], ReportSource]
    env: Mapping[str, str] = field(default_factory=dict)


class Live:
    """Owns the services and swaps them as a whole. Belongs to one event loop.

    A request works with the services that were ``now`` when it was placed, to its end: the configuration beneath its
    tries never changes. What all have in common (fleet, connections, metrics, tokenizer, decisions) is carried over.
    """

    def __init__(self, services: GatewayServices, source: ConfigSource | None = None) -> None:
        self._now = services
        self._source = source
        self._swapped = asyncio.Event()
        self._former_reports: list[ReportSource] = []
        self._follow: Callable[[Config], bool] = lambda _: False

    def follow_with(self, follow: Callable[[Config], bool]) -> None:
        """Ask this of every configuration that is read again, the last before it counts. It follows and returns whether
        that changed anything, or refuses it with a ConfigError. There is one alone: of two the first would have
        followed what the second refuses."""
        self._follow = follow

    @property
    def now(self) -> GatewayServices:
        return self._now

    @property
    def can_reload(self) -> bool:
        return self._source is not None

    def reload(self) -> Changes:
        """Follow the configuration as it is now.

        Raises:
            ConfigError: it is wrong, or needs a restart; then everything stays as it was.
        """
        if self._source is None:
            raise ConfigError("this gateway was started without a file that it could read again")
        config = self._source.load()
        changes = changes_between(self._now.config, config)
        is_dialed_alike = _certificates(config) == _certificates(self._now.config)
        reports = self._now.reports if is_dialed_alike else self._source.reports(config)
        access = self._now.access.following(config, self._source.env)
        if access is not self._now.access and "tenants" not in changes.other:
            changes = replace(changes, other=(*changes.other, "tenants"))  # the same files hold other keys
        if self._follow(config) and config == self._now.config:
            changes = replace(changes, other=(*changes.other, "controller"))  # the same files hold other profiles
        if config != self._now.config or access is not self._now.access:
            self._swap(config, changes, reports, access)
        log.info("configuration read again: %s", changes)
        return changes

    async def swapped(self, services: GatewayServices) -> None:
        """Wait until these services are no longer those of now."""
        while self._now is services:
            await self._swapped.wait()

    async def aclose(self) -> None:
        """Close the clients to the movers, former ones too: requests in flight asked with them to the last."""
        for reports in (*self._former_reports, self._now.reports):
            await reports.aclose()

    def _swap(self, config: Config, changes: Changes, reports: ReportSource, access: Access) -> None:
        old = self._now
        if reports is not old.reports:
            self._former_reports.append(old.reports)
        _forget(old, changes.removed, changes.moved)
        old.fleet.keep(config.engines, changes.moved)
        old.prefixes.keep(config.engines, changes.moved)
        old.fleet.link_breakers.keep([(link.source, link.target) for link in config.links])
        self._now = replace(
            old,
            config=config,
            upstream=old.upstream.to({name: engine.url for name, engine in config.engines.items()}),
            reports=reports,
            access=access,
            view=old.view.following(config),
        )
        swapped, self._swapped = self._swapped, asyncio.Event()
        swapped.set()


def _certificates(config: Config) -> object:
    """All that a client to the movers is made of."""
    return tls_settings(config, config.gateway.site)


def _forget(services: GatewayServices, removed: Collection[str], moved: Collection[str]) -> None:
    for name in (*removed, *moved):
        services.tokenizer.forget(name)
        services.metrics.forget(name)
