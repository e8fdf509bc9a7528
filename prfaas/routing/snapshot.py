"""What a placement decision looks at: frozen values, the same for as long as the decision takes."""

from collections.abc import Mapping

import msgspec

from prfaas.routing.figures import CacheSize, PrefillRate


class RequestFeatures(msgspec.Struct, frozen=True, gc=False):
    """What matters about a request for its placement; never the prompt itself.

    Attributes:
        prompt_tokens: length of the prompt, None when it was not tokenised or only an engine can tell.
        local_reasons: why this request cannot take its cache from another engine, empty when it can.
        hits: engine name -> prompt tokens that the engine would reuse from its cache now; an absent engine reuses none.
        min_tokens: what is known of the length where ``prompt_tokens`` is None: no shorter than this.
        max_tokens: the same: no longer than this, None when nothing is known.
        tenant_sites: the sites that may see the prompt or its cache, None for all.
        first_token_slo_s: this request's objective for its first token; None takes the policy's.
        adapter: the LoRA adapter that it is computed with, None for the model itself.
    """

    prompt_tokens: int | None
    local_reasons: tuple[str, ...] = ()
    hits: Mapping[str, int] = msgspec.field(default_factory=dict)
    min_tokens: int = 0
    max_tokens: int | None = None
    tenant_sites: frozenset[str] | None = None
    first_token_slo_s: float | None = None
    adapter: str | None = None


class EngineState(msgspec.Struct, frozen=True, gc=False):
    """One engine as the gateway sees it.

    Attributes:
        is_healthy: the last word about it was a good one.
        inflight: this gateway's own requests there.
        is_draining: it gets no new requests.
        is_broken: its circuit breaker is open.
        waiting_tokens: uncached prompt tokens that were placed there and are not prefilled yet.
        capacity: most requests that it runs at once, None when nobody has said.
        prefill: how fast it prefills, None when unknown: then nothing is predicted of it.
        decode_load: how full its decode batch is, in [0, 1], None when unknown.
        adapters: names of the LoRA adapters that it has, None when it has not been asked.
        awaiting: of ``inflight``, those that are to be decoded there and whose cache is not there yet.
    """

    name: str
    site: str
    can_prefill: bool
    can_decode: bool
    is_healthy: bool
    inflight: int = 0
    is_draining: bool = False
    is_broken: bool = False
    waiting_tokens: int = 0
    capacity: int | None = None
    prefill: PrefillRate | None = None
    decode_load: float | None = None
    adapters: frozenset[str] | None = None
    awaiting: int = 0

    @property
    def speed(self) -> str | None:
        """How it is known how fast the engine prefills, None when it is not."""
        return self.prefill.source if self.prefill else None


class LinkState(msgspec.Struct, frozen=True, gc=False):
    """A directed link, all transfers of all engines on it together.

    Attributes:
        source: the site where caches are made.
        target: the site that decodes.
        bandwidth_bytes_s: what the configuration says; positive.
        goodput_bytes_s: what its transfers reach, 0 before the first.
        queued_bytes: cache bytes that were made and have not arrived.
        utilisation: share of the bandwidth in use, in [0, 1].
        rtt_s: round trip now, 0 when unknown.
        is_congested: queues on the path grow, or it loses data.
        is_scarce: what ``Scarcity`` makes of utilisation and congestion.
        budget_left_bytes: what may still cross in the budget's window, None without a budget.
        is_broken: its circuit breaker is open.
    """

    source: str
    target: str
    bandwidth_bytes_s: float
    goodput_bytes_s: float = 0.0
    queued_bytes: float = 0.0
    utilisation: float = 0.0
    rtt_s: float = 0.0
    is_congested: bool = False
    is_scarce: bool = False
    budget_left_bytes: float | None = None
    is_broken: bool = False


class FleetSnapshot(msgspec.Struct, frozen=True, gc=False):
    """The fleet at one moment.

    Attributes:
        site: where requests are decoded.
        engines: all engines of all sites.
        links: all links; those that lead to ``site`` may bring caches.
        turn: a number that grows with every decision; spreads requests over engines that are equal otherwise.
        cache: the model's cache on the wire, None when unknown: then no transfer's time is predicted.
    """

    site: str
    engines: tuple[EngineState, ...]
    links: tuple[LinkState, ...]
    turn: int = 0
    cache: CacheSize | None = None
