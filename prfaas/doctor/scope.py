"""What of a configuration concerns one site: pure."""

from dataclasses import dataclass
from typing import Literal

from prfaas.config import Config, EngineConfig, LinkConfig

Serves = Literal["gateway", "engine", "mover", "data"]


@dataclass(frozen=True, slots=True)
class Listener:
    """A port where something of the configuration listens.

    Attributes:
        key: the key that says so.
        host, port: where.
        serves: what listens there.
        engine: whose it is, empty for the gateway's.
    """

    key: str
    host: str
    port: int
    serves: Serves
    engine: str = ""


@dataclass(frozen=True)
class Scope:
    """One site of a configuration.

    Attributes:
        config: all of it.
        site: the one that is looked at; its certificates are shown to others.
    """

    config: Config
    site: str

    @property
    def is_gateways(self) -> bool:
        """Whether the gateway is here."""
        return self.site == self.config.gateway.site

    @property
    def own_engines(self) -> dict[str, EngineConfig]:
        """The site's engines, by name."""
        return {name: engine for name, engine in self.config.engines.items() if engine.site == self.site}

    @property
    def sources(self) -> dict[str, EngineConfig]:
        """The engines of other sites that engines of this one load caches from, by name."""
        return self.config.linked_prefill_engines(self.site)

    @property
    def asked_engines(self) -> dict[str, EngineConfig]:
        """The engines that this site's gateway sends requests to, or whose caches are loaded here, and its own."""
        return {**self.own_engines, **self.sources}

    @property
    def dialed_listeners(self) -> list[Listener]:
        """Where other sites dial the site's engines: those that load their caches, and the gateway if it is there."""
        targets = {link.target for link in self.config.links if link.source == self.site}
        is_asked = self.config.gateway.site in targets
        engines = self.config.engines_at(self.site, "prefill") if targets else {}
        listeners = [each for name in engines for each in self.listeners_of(name)]
        return [each for each in listeners if is_asked or each.serves != "engine"]

    @property
    def links(self) -> list[LinkConfig]:
        """Those over which caches come here."""
        return [link for link in self.config.links if link.target == self.site]

    @property
    def own_listeners(self) -> list[Listener]:
        """Where the site's servers listen."""
        gateway = self.config.gateway
        front = [Listener("gateway.port", gateway.host, gateway.port, "gateway")] if self.is_gateways else []
        return [*front, *(each for name in self.own_engines for each in self.listeners_of(name))]

    def listeners_of(self, name: str) -> list[Listener]:
        """Where an engine listens. Its data port is closed where its site's links are all gRPC's, and it has no
        neighbours."""
        engine = self.config.engines[name]
        kv_host, kv_port = engine.kv_address
        listeners = [
            Listener(f"engines.{name}.url", *engine.address, "engine", name),
            Listener(f"engines.{name}.kv", kv_host, kv_port, "mover", name),
        ]
        if self._serves_tcp(name, engine):
            listeners.append(Listener(f"engines.{name}.kv (its data port)", kv_host, kv_port + 1, "data", name))
        return listeners

    def _serves_tcp(self, name: str, engine: EngineConfig) -> bool:
        is_linked = any(link.source == engine.site and link.transport == "tcp" for link in self.config.links)
        return is_linked or engine.convertible or name in self.config.neighbour_prefill_engines(engine.site)
