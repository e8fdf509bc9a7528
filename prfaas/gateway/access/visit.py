"""One request of a tenant, from its key to its end."""

from collections.abc import Mapping, Sequence

from starlette.datastructures import Headers

from prfaas.clock import Clock, MonotonicClock
from prfaas.config import AccessConfig, Config, PriorityConfig, TenantConfig
from prfaas.errors import RequestRejected
from prfaas.gateway.access.gate import Gate
from prfaas.gateway.access.keys import KeyRing, given_key, unauthorised
from prfaas.gateway.access.limits import TenantLimits
from prfaas.gateway.access.objective import given_objective_s, soonest
from prfaas.gateway.access.tenants import Tenant, load_tenants, objectives_of
from prfaas.observe.metrics import Metrics
from prfaas.observe.tenants import TenantMetrics

PRIORITY_HEADER = "x-prfaas-priority"
ANYBODY = ""
"""The name of the one tenant where none is configured."""


class Access:
    """Who may use the gateway, and what they have used. Belongs to one event loop."""

    def __init__(
        self,
        tenants: Mapping[str, tuple[Tenant, TenantLimits]],
        keys: KeyRing | None,
        gate: Gate,
        clock: Clock,
        metrics: TenantMetrics,
    ) -> None:
        """``keys`` is None where everybody may use the gateway, as the tenant ``ANYBODY``."""
        self._tenants = tenants
        self._keys = keys
        self.gate = gate
        self.clock = clock
        self.metrics = metrics

    @property
    def needs_key(self) -> bool:
        return self._keys is not None

    def tenant_of(self, headers: Headers) -> Tenant:
        """Whose request this is. Raises RequestRejected (401)."""
        return self._known(headers)[0]

    def tenant_named(self, name: str) -> Tenant:
        """A tenant whose key was known. Raises RequestRejected (401) when there is none of this name any more."""
        if name not in self._tenants:
            raise unauthorised("The API key is not known here any more.", "invalid_api_key")
        return self._tenants[name][0]

    def visit(self, headers: Headers) -> "Visit":
        """A request has come; its visit is to be begun and closed. Raises RequestRejected (400, 401, 403)."""
        tenant, limits = self._known(headers)
        try:
            return Visit(self, tenant, limits, _priority(headers, tenant), given_objective_s(headers))
        except RequestRejected as error:
            self.metrics.count_refused(tenant.name, error.code or "")
            raise

    def following(self, config: Config, env: Mapping[str, str]) -> "Access":
        """Who may use the gateway under another configuration, or with other keys in the same files; this object itself
        if nothing is different. Visits go on as they began; what tenants that stay have used of their limits, and what
        they have running, counts on. Some configuration has tenants here either both times or never.

        Raises:
            ConfigError: a key cannot be used; then nothing has changed.
        """
        if self._keys is None:
            return self
        tenants, digests = load_tenants(config, env)
        limits = {name: _limits_of(section, config.gateway.workers) for name, section in config.tenants.items()}
        known: dict[str, tuple[Tenant, TenantLimits]] = {}
        for name, tenant in tenants.items():
            kept = self._tenants[name][1] if name in self._tenants else TenantLimits(self.clock)
            kept.change(*limits[name])
            known[name] = (tenant, kept)
        if known == self._tenants and self._keys.is_of(digests):
            return self
        return Access(known, KeyRing(digests), self.gate, self.clock, self.metrics)

    def _known(self, headers: Headers) -> tuple[Tenant, TenantLimits]:
        if self._keys is None:
            return self._tenants[ANYBODY]
        try:
            name = self._keys.tenant_of(given_key(headers))
            if name is None:
                raise unauthorised("The API key is not known here.", "invalid_api_key")
        except RequestRejected as error:
            self.metrics.count_refused(ANYBODY, error.code or "")
            raise
        return self._tenants[name]


class Visit:
    """What one request holds: a place among its tenant's, expected tokens, a place past the gate.

    Attributes:
        tenant: whose request it is; ``tenant.sites`` are those where its prompt may be.
        priority: its class.
        waited_s: how long it waited at the gate.
    """

    def __init__(
        self, access: Access, tenant: Tenant, limits: TenantLimits, priority: str, objective_s: float | None = None
    ) -> None:
        """``objective_s`` is the client's own for the first token."""
        self.tenant = tenant
        self.priority = priority
        self.waited_s = 0.0
        self._access = access
        self._limits = limits
        self._objective_s = objective_s
        self._charged_tokens = 0
        self._has_begun = False
        self._is_past_gate = False

    @property
    def expected_tokens(self) -> int:
        """What it has been charged."""
        return self._charged_tokens

    def objective_s(self, default_s: float | None) -> float | None:
        """When the first token is wanted, counted from the placement: as configured for the class or the tenant, else
        ``default_s``, and sooner if the client says so. None when nobody says."""
        return soonest(self.tenant.objectives_s.get(self.priority, default_s), self._objective_s)

    def follow(self, access: Access) -> None:
        """Go on by what this access says of the tenant. Raises RequestRejected (401) when there is none any more."""
        if access is not self._access:
            self.tenant, self._access = access.tenant_named(self.tenant.name), access

    def begin(self) -> None:
        """Take a place among the tenant's requests. Raises RequestRejected (429)."""
        self._limits.begin()
        self._has_begun = True

    def charge(self, tokens: int) -> None:
        """Take the tokens that the prompt has, or is expected to have. Raises RequestRejected (429)."""
        self._limits.charge(tokens)
        self._charged_tokens = tokens

    def enter_now(self) -> bool:
        """Pass the gate if that needs no wait."""
        if not self._access.gate.enter_now():
            return False
        self._has_passed()
        return True

    async def enter(self) -> None:
        """Pass the gate when the turn comes. Raises RequestRejected (429, 503)."""
        arrived_s = self._access.clock.now_s()
        await self._access.gate.enter(self.priority, self.tenant.name)
        self.waited_s = self._access.clock.now_s() - arrived_s
        self._has_passed()

    def refused(self, error: RequestRejected) -> str:
        """The gateway itself answers with an error. Returns the tenant's name."""
        self._access.metrics.count_refused(self.tenant.name, error.code or "")
        return self.tenant.name

    def close(self, used_tokens: int = 0) -> None:
        """The request is over and has used these tokens: give everything back. Idempotent."""
        if not self._has_begun:
            return
        self._has_begun = False
        self._limits.settle(self._charged_tokens, used_tokens)
        self._limits.end()
        if self._is_past_gate:
            self._access.gate.leave()
            self._access.metrics.count_tokens(self.tenant.name, used_tokens)

    def headers(self) -> dict[str, str]:
        """What the client may know of its limits."""
        return self._limits.headers()

    def _has_passed(self) -> None:
        self._is_past_gate = True
        self._access.metrics.count_let_in(self.tenant.name, self.priority, self.waited_s)


def build_access(config: Config, env: Mapping[str, str], clock: Clock, metrics: Metrics) -> Access:
    """Tenants, limits and gate of the configuration; each worker has its part of the limits. Raises ConfigError."""
    if not config.tenants:
        return open_access(clock, metrics, config.access, config.gateway.workers)
    tenants, digests = load_tenants(config, env)
    workers = config.gateway.workers
    known = {
        name: (tenant, TenantLimits(clock, *_limits_of(config.tenants[name], workers)))
        for name, tenant in tenants.items()
    }
    return Access(known, KeyRing(digests), _gate(config.access, workers, clock, metrics), clock, metrics.tenants)


def open_access(
    clock: Clock | None = None, metrics: Metrics | None = None, config: AccessConfig | None = None, workers: int = 1
) -> Access:
    """Everybody may use the gateway, without a key and without limits but those of the gate."""
    clock, metrics, config = clock or MonotonicClock(), metrics or Metrics(), config or AccessConfig()
    classes = tuple(each.name for each in config.priorities)
    tenant = Tenant(ANYBODY, classes, objectives_s=objectives_of(config))
    gate = _gate(config, workers, clock, metrics)
    return Access({ANYBODY: (tenant, TenantLimits(clock))}, None, gate, clock, metrics.tenants)


def _gate(config: AccessConfig, workers: int, clock: Clock, metrics: Metrics) -> Gate:
    classes: Sequence[PriorityConfig] = [
        each.model_copy(update={"max_waiting": -(-each.max_waiting // workers)}) for each in config.priorities
    ]
    return Gate(_part(config.max_running, workers) or 1, classes, clock, metrics.tenants)


def _limits_of(tenant: TenantConfig, workers: int) -> tuple[int | None, int | None, int | None]:
    """One worker's part of the limits: requests and tokens a minute, requests at once."""
    limits = tenant.requests_per_minute, tenant.tokens_per_minute, tenant.max_concurrent
    requests, tokens, concurrent = (_part(limit, workers) for limit in limits)
    return requests, tokens, concurrent


def _part(limit: int | None, workers: int) -> int | None:
    """One worker's part of a limit, rounded up: none is left with nothing."""
    return None if limit is None else -(-limit // workers)


def _priority(headers: Headers, tenant: Tenant) -> str:
    """The class that the request asks for, or its tenant's first."""
    wanted = headers.get(PRIORITY_HEADER, tenant.priorities[0])
    if wanted not in tenant.priorities:
        message = f"The header {PRIORITY_HEADER} names a class that this key may not use."
        raise RequestRejected(403, message, kind="permission_error", param=PRIORITY_HEADER, code="priority_not_allowed")
    return wanted
