"""What each tenant and each class of requests costs; names come from the configuration, so their number is bounded."""

from prfaas.observe.definitions import Definitions

_WAIT_BUCKETS_S = (0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300)
"""From a gap between two answers to the longest that anybody waits for a turn."""


class TenantMetrics:
    """Metrics by tenant and by priority class; the tenant is empty where everybody may use the gateway."""

    def __init__(self, definitions: Definitions) -> None:
        self._requests = definitions.counter(
            "prfaas_tenant_requests_total", "Requests that were let in.", ["tenant", "priority"]
        )
        self._refused = definitions.counter(
            "prfaas_tenant_refused_requests_total", "Requests that were not let in.", ["tenant", "code"]
        )
        self._tokens = definitions.counter(
            "prfaas_tenant_tokens_total",
            "Tokens of prompts and answers, as the engines told them or else estimated.",
            ["tenant"],
        )
        self._waiting = definitions.gauge(
            "prfaas_waiting_requests", "Requests that wait for their turn.", ["priority"], "livesum"
        )
        self._wait_s = definitions.histogram(
            "prfaas_queue_seconds", "How long requests waited for their turn.", _WAIT_BUCKETS_S, ["priority"]
        )

    def count_let_in(self, tenant: str, priority: str, waited_s: float) -> None:
        self._requests.labels(tenant, priority).inc()
        self._wait_s.labels(priority).observe(waited_s)

    def count_refused(self, tenant: str, code: str) -> None:
        self._refused.labels(tenant, code).inc()

    def count_tokens(self, tenant: str, tokens: int) -> None:
        self._tokens.labels(tenant).inc(tokens)

    def waiting(self, priority: str, change: int) -> None:
        self._waiting.labels(priority).inc(change)
