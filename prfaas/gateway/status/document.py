"""What ``GET /prfaas/status`` answers. Fields are only ever added: readers ignore those that they do not know.

Seconds, bytes and tokens throughout; null where nobody knows. Of a gateway with several workers, requests, queues and
decisions are those of all that answer; how engines and links are, and the controller, are as one of them sees them.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from prfaas.config import Role
from prfaas.config.controller import Mode
from prfaas.fleet.breaker import State
from prfaas.gateway.operator import EngineWord


class Told(BaseModel):
    """Base of all parts: frozen, and described by the texts beneath the fields."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True, ser_json_inf_nan="null")


class Gateway(Told):
    """The process that answers."""

    version: str
    model: str
    adapters: tuple[str, ...]
    site: str
    """Where requests are decoded."""
    unix_s: float
    """Now, by this machine's clock."""
    uptime_s: float
    workers: int
    """Processes of this gateway."""
    heard_workers: int
    """Those whose requests and decisions are in here: fewer while one is started again, or does not answer."""
    needs_key: bool
    """Whether tenants are configured, so that clients need keys."""


class Engine(Told):
    """One vLLM server."""

    name: str
    site: str
    roles: tuple[Role, ...]
    """What it does now."""
    configured_roles: tuple[Role, ...]
    convertible: bool
    state: EngineWord
    state_for_s: float
    problem: str
    """Why it is unhealthy, empty when it is well."""
    healthy: bool
    draining: bool
    """It takes no new requests, whoever says so."""
    broken: bool
    """Placement avoids it because its circuit breaker is open."""
    breaker: State
    inflight: int
    """Requests of this gateway that it works on."""
    awaiting: int
    """Of those, requests whose cache is not there yet."""
    waiting_tokens: int
    """Uncached prompt tokens that were placed there and are not prefilled yet."""
    wait_s: float | None
    """How long those take it, where its speed is known."""
    capacity: int | None
    """Most requests at once, where the configuration says."""
    prefill_tokens_s: float | None
    """How fast it prefills, without the part that grows with a prompt's length."""
    speed_source: Literal["configured", "measured"] | None
    prefix_knowledge: str
    """How it is known what it has cached: exact, partial (events were lost) or guessed from what was sent."""
    recent_requests: int
    """Of the kept decisions, those whose prompt it was to prefill."""
    recent_prompt_tokens: int
    """Of those whose length and reuse are known."""
    recent_reused_tokens: int
    """Of those tokens, what it had cached."""


class Link(Told):
    """A directed link: caches flow from ``source`` to ``target``."""

    source: str
    target: str
    transport: Literal["tcp", "grpc"]
    bandwidth_bytes_s: float
    """As configured."""
    goodput_bytes_s: float
    """What its transfers reach; 0 before the first."""
    utilisation: float
    """Share of the bandwidth in use, in [0, 1]."""
    load_bytes_s: float
    """The same in bytes a second."""
    queued_bytes: float
    """Cache that was made and has not arrived."""
    rtt_s: float | None
    congested: bool
    """Queues on the path grow, or it loses data."""
    scarce: bool
    """Placement spares it."""
    broken: bool
    """Its circuit breaker is open."""
    breaker: State
    requests: int
    """Requests whose cache is on its way over it, or is to come."""
    budget_bytes: float | None
    """What may cross in 24 hours."""
    budget_left_bytes: float | None


class Site(Told):
    """A place, with what its engines amount to."""

    name: str
    is_local: bool
    """The gateway's own: requests are decoded there."""
    engines: int
    healthy_engines: int
    """Those that are well and take new requests."""
    inflight: int
    waiting_tokens: int


class Waiting(Told):
    """One class of requests, in the line before the engines."""

    priority: str
    waiting: int
    max_waiting: int


class Admission(Told):
    """The line before the engines, the highest class first."""

    running: int
    max_running: int
    classes: tuple[Waiting, ...]


class Change(Told):
    """Something that the controller changed, or in shadow would have changed."""

    unix_s: float
    kind: str
    what: str
    reasons: tuple[str, ...]


class Conversion(Told):
    """An engine that is on its way to its other role."""

    engine: str
    role: Role
    for_s: float


class Controller(Told):
    """t, and what the controller would have."""

    mode: Mode
    threshold_tokens: int
    """t in force: a prompt with more uncached tokens is prefilled elsewhere."""
    configured_threshold_tokens: int
    wanted_threshold_tokens: int | None
    """As the controller last said; null while it says nothing."""
    planned_threshold_tokens: int | None
    """Of its long term, without what queues make of it for seconds; null before a plan."""
    arrival_requests_s: float | None
    capacity_requests_s: float | None
    """Requests a second that the fleet serves as it is divided, by the model; null before a plan."""
    binding: str | None
    """The narrowest stage then."""
    why: str
    """Why another division is wanted, empty when none is."""
    waits_for: str
    """What the next plan or conversion waits for, empty when nothing is wanted."""
    conversions: tuple[Conversion, ...]
    last_change: Change | None
    last_error: str


class Recent(Told):
    """The kept decisions, at most some hundred of the last requests."""

    requests: int
    capacity: int
    since_unix_s: float | None
    """When the oldest of them arrived."""
    outcomes: dict[str, int]
    """By what became of them: running, local, remote, recomputed, unknown, error, cancelled, refused."""
    prompt_tokens: int
    """Of those whose length and reuse are known."""
    reused_tokens: int
    """Of those tokens, what the engine that prefilled had cached."""
    remote_tokens: int
    """Prompt tokens whose cache crossed a link and was used."""
    cache_bytes: int
    """Of used transfers."""
    early_bytes: int
    """Of those, bytes that came before the prefill ended."""
    first_output_p50_s: float | None
    """Median of the seconds to the first output, of streamed answers."""
    first_output_p95_s: float | None


class Status(Told):
    """The gateway at one moment."""

    gateway: Gateway
    sites: tuple[Site, ...]
    engines: tuple[Engine, ...]
    links: tuple[Link, ...]
    admission: Admission
    controller: Controller
    recent: Recent
