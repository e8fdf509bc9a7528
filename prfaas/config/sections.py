"""The sections of the configuration: immutable, each checked by itself."""

from collections.abc import Mapping
from typing import Annotated, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from prfaas.config.access import AccessConfig, HttpsConfig, TenantConfig
from prfaas.config.base import FilePath, Name, Port, Seconds, Section
from prfaas.config.controller import ControllerConfig
from prfaas.config.observe import ObserveConfig
from prfaas.config.policy import PolicyConfig, PrefillConfig

Role = Literal["prefill", "decode"]


def _checked_url(value: str) -> str:
    url = urlsplit(value)
    if url.scheme not in ("http", "https") or not url.hostname or _port(url) is None:
        raise ValueError("write it as http://host:port")
    if url.path.strip("/") or url.query or url.fragment or url.username:
        raise ValueError("only scheme, host and port belong here")
    return value.rstrip("/")


def _checked_endpoint(value: str) -> str:
    endpoint = urlsplit(f"//{value}")
    if not endpoint.hostname or _port(endpoint) is None or endpoint.netloc != value or endpoint.username:
        raise ValueError("write it as host:port")
    return value


def _off(value: object) -> object:
    """YAML reads a bare ``off`` as false."""
    return "off" if value is False else value


def _port(parts: SplitResult) -> int | None:
    """The port if it is one that can be dialed; an ephemeral port (0) cannot."""
    try:
        return parts.port or None
    except ValueError:
        return None


def _address(parts: SplitResult) -> tuple[str, int]:
    return parts.hostname or "", _port(parts) or 0


Url = Annotated[str, AfterValidator(_checked_url)]
Endpoint = Annotated[str, AfterValidator(_checked_endpoint)]
AdapterName = Annotated[str, StringConstraints(pattern=r"^\S{1,256}$")]


class ModelConfig(Section):
    """The one model that all engines serve; ``path`` gives its tokenizer, chat template and weights."""

    name: Annotated[str, Field(min_length=1)]
    path: Annotated[str, Field(min_length=1)]
    max_model_len: Annotated[int, Field(ge=2)]
    adapters: Annotated[
        Mapping[AdapterName, FilePath],
        Field(description="LoRA adapters by the name that requests give as their model: folder or repository."),
    ] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """What requests may ask for, the model itself first."""
        return (self.name, *self.adapters)

    def adapter(self, name: object) -> tuple[str, str] | None:
        """Name and path of the adapter that a request asks for, None when it asks for none."""
        return (name, self.adapters[name]) if isinstance(name, str) and name in self.adapters else None


class GatewayConfig(Section):
    """Where the gateway listens and what it accepts; its site is where requests are decoded."""

    host: str = "127.0.0.1"
    port: Port = 8000
    site: Name
    max_body_bytes: Annotated[int, Field(ge=1024)] = 8 * 1024 * 1024
    request_timeout_s: Seconds = 600
    shutdown_grace_s: Annotated[
        int, Field(ge=1, le=3_600, description="How long running answers may go on after the signal to stop.")
    ] = 10
    workers: Annotated[
        int, Field(ge=1, le=64, description="Processes that serve; each has its part of all limits.")
    ] = 1
    https: HttpsConfig | None = None
    operator_key_file: Annotated[
        FilePath | None,
        Field(
            description="Whoever knows the key in it, and nobody else, may drain, reload and see status, decisions and "
            "metrics. Without one whoever is on this machine may drain and reload."
        ),
    ] = None
    state_file: Annotated[
        FilePath | None,
        Field(description="Keeps which engines are drained over a restart, and for several processes of one gateway."),
    ] = None


class TlsConfig(Section):
    """A site's certificates, as ``prfaas certs`` makes them: files on every host of the site, read again when renewed.

    ``name`` is the DNS name in the certificate if another authority made it; peers compare it, and look nothing up.
    """

    ca: FilePath
    cert: FilePath
    key: FilePath
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$")] | None = None


class SiteConfig(Section):
    """A place whose engines share a local network; ``tls: off`` lets its caches travel in plain text."""

    tls: Annotated[TlsConfig | Literal["off"] | None, BeforeValidator(_off)] = None


class EngineConfig(Section):
    """One vLLM server: ``url`` is its HTTP API, ``kv`` the endpoint of its cache transfers."""

    site: Name
    url: Url
    kv: Endpoint
    roles: Annotated[tuple[Role, ...], Field(min_length=1)] = ("prefill", "decode")
    max_requests: Annotated[
        int | None,
        Field(ge=1, description="vLLM's --max-num-seqs; placement fills it no further."),
    ] = None
    gpus: Annotated[
        int | None,
        Field(
            ge=0,
            le=1_024,
            description="GPUs that it needs. Its start and prfaas doctor look for them; where nothing is said, for one "
            "where vLLM's build for GPUs is installed.",
        ),
    ] = None
    prefill: PrefillConfig | None = None
    convertible: Annotated[
        bool,
        Field(
            description="The controller may give it the other role while it runs. It is started so that it can play "
            "either; for engines of the gateway's site with one role."
        ),
    ] = False

    def may(self, role: Role) -> bool:
        """Whether it plays the role, or may come to."""
        return self.convertible or role in self.roles

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the HTTP API."""
        return _address(urlsplit(self.url))

    @property
    def kv_address(self) -> tuple[str, int]:
        """Host and port of the cache transfers."""
        return _address(urlsplit(f"//{self.kv}"))


class LinkConfig(Section):
    """A directed link between sites: caches flow from ``source`` (key ``from``) to ``target`` (key ``to``)."""

    source: Annotated[Name, Field(alias="from")]
    target: Annotated[Name, Field(alias="to")]
    bandwidth_gbps: Annotated[
        float,
        Field(gt=0, description="What utilisation in the metrics is measured against."),
    ] = 10
    rate_limit_gbps: Annotated[
        float | None,
        Field(
            gt=0,
            description="Each engine of the source site sends caches no faster than this over the link. A little below "
            "the line rate (0.98) keeps queues short; none leaves it to TCP.",
        ),
    ] = None
    transport: Annotated[
        Literal["tcp", "grpc"], Field(description="grpc sends caches over the control port too, where only it passes.")
    ] = "tcp"
    egress_budget_gb_per_day: Annotated[
        float | None,
        Field(gt=0, description="Cache bytes (10^9) that may cross in 24 hours."),
    ] = None


class Config(Section):
    """The whole configuration, immutable and consistent."""

    model: ModelConfig
    gateway: GatewayConfig
    sites: Mapping[Name, SiteConfig]
    engines: Mapping[Name, EngineConfig]
    links: tuple[LinkConfig, ...] = ()
    policy: PolicyConfig = PolicyConfig()
    access: AccessConfig = AccessConfig()
    tenants: Annotated[Mapping[Name, TenantConfig], Field(max_length=1_000)] = {}
    controller: ControllerConfig = ControllerConfig()
    observe: ObserveConfig = ObserveConfig()

    def engines_at(self, site: str, role: Role) -> dict[str, EngineConfig]:
        """The engines of a site that play a role, by name; those that are convertible may play the other one later."""
        return {name: engine for name, engine in self.engines.items() if engine.site == site and role in engine.roles}

    def engines_able(self, site: str, role: Role) -> dict[str, EngineConfig]:
        """The engines of a site that play a role or may come to, by name."""
        return {name: engine for name, engine in self.engines.items() if engine.site == site and engine.may(role)}

    def convertible_engines(self) -> dict[str, EngineConfig]:
        """Those that the controller may give another role, by name."""
        return {name: engine for name, engine in self.engines.items() if engine.convertible}

    def linked_prefill_engines(
        self, site: str, transport: Literal["tcp", "grpc"] | None = None
    ) -> dict[str, EngineConfig]:
        """The prefill engines of other sites that have a link (of this transport) to ``site``, by name."""
        sources = [link.source for link in self.links if link.target == site and transport in (None, link.transport)]
        return {name: engine for source in sources for name, engine in self.engines_at(source, "prefill").items()}

    def neighbour_prefill_engines(self, site: str) -> dict[str, EngineConfig]:
        """The engines of ``site`` that only prefill and hand their caches to its decode engines, by name. Requests are
        decoded in the gateway's site alone, so another site has none."""
        prefilling = self.engines_at(site, "prefill") if site == self.gateway.site else {}
        return {name: engine for name, engine in prefilling.items() if "decode" not in engine.roles}
