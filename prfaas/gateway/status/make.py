"""The status document, made of what the gateway holds at one moment. Reads, and changes nothing."""

from collections.abc import Sequence

from prfaas import __version__
from prfaas.config import Config, EngineConfig, LinkConfig, Role
from prfaas.fleet.breaker import State
from prfaas.fleet.fleet import EngineStatus
from prfaas.gateway.control.follow import threshold_of
from prfaas.gateway.control.told import Seen
from prfaas.gateway.operator import state_of, state_since_s
from prfaas.gateway.services import GatewayServices
from prfaas.gateway.status.document import (
    Admission,
    Change,
    Controller,
    Conversion,
    Engine,
    Gateway,
    Link,
    Recent,
    Site,
    Status,
    Waiting,
)
from prfaas.gateway.status.recent import Kept, Reuse, quantile
from prfaas.gateway.worker_share import EngineLoad, Share
from prfaas.routing.snapshot import EngineState, LinkState

NONE_ASKED = Reuse()


def status_of(services: GatewayServices, seen: Seen, share: Share, uptime_s: float) -> Status:
    """Everything, as it is now, with the load of all workers. Costs a look at the fleet."""
    config, view, snapshot, now_s = services.config, services.view, services.view.look(), services.clock.now_s()
    engines = tuple(
        engine_of(
            config.engines[each.name],
            each,
            services.fleet.status(each.name),
            share.engines.get(each.name, EngineLoad()),
            breaker=services.fleet.breakers.of(each.name).state,
            knowledge=services.prefixes.index.state(each.name).knowledge,
            reuse=share.kept.by_engine.get(each.name, NONE_ASKED),
            now_s=now_s,
        )
        for each in snapshot.engines
    )
    links = tuple(
        link_of(link, state, services.fleet.link_breakers.of(ends).state, share.links.get(ends, 0))
        for link, state in zip(config.links, snapshot.links, strict=True)
        for ends in [(state.source, state.target)]
    )
    return Status(
        gateway=Gateway(
            version=__version__,
            model=config.model.name,
            adapters=tuple(config.model.adapters),
            site=config.gateway.site,
            unix_s=services.unix_s(),
            uptime_s=uptime_s,
            workers=config.gateway.workers,
            heard_workers=share.workers,
            needs_key=services.access.needs_key,
        ),
        sites=sites_of(config, engines),
        engines=engines,
        links=links,
        admission=admission_of(share),
        controller=controller_of(config, view.policy.threshold_tokens, seen, share.arrival_requests_s, now_s),
        recent=recent_of(share.kept),
    )


def engine_of(
    config: EngineConfig,
    state: EngineState,
    status: EngineStatus,
    load: EngineLoad,
    *,
    breaker: State,
    knowledge: str,
    reuse: Reuse,
    now_s: float,
) -> Engine:
    """One engine, as placement sees it and as it is told to operators, with what all workers have there."""
    roles: tuple[tuple[Role, bool], ...] = (("prefill", state.can_prefill), ("decode", state.can_decode))
    rate = state.prefill
    return Engine(
        name=state.name,
        site=state.site,
        roles=tuple(role for role, plays in roles if plays),
        configured_roles=config.roles,
        convertible=config.convertible,
        state=state_of(status, load),
        state_for_s=now_s - state_since_s(status),
        problem=status.problem,
        healthy=state.is_healthy,
        draining=state.is_draining,
        broken=state.is_broken,
        breaker=breaker,
        inflight=load.inflight,
        awaiting=load.awaiting,
        waiting_tokens=load.waiting_tokens,
        wait_s=rate.queue_seconds(load.waiting_tokens) if rate else None,
        capacity=state.capacity,
        prefill_tokens_s=1 / rate.s_per_token if rate and rate.s_per_token > 0 else None,
        speed_source=rate.source if rate else None,
        prefix_knowledge=knowledge,
        recent_requests=reuse.requests,
        recent_prompt_tokens=reuse.prompt_tokens,
        recent_reused_tokens=reuse.reused_tokens,
    )


def link_of(config: LinkConfig, state: LinkState, breaker: State, requests: int) -> Link:
    """One link, which the caches of so many requests are to cross."""
    budget_gb = config.egress_budget_gb_per_day
    return Link(
        source=state.source,
        target=state.target,
        transport=config.transport,
        bandwidth_bytes_s=state.bandwidth_bytes_s,
        goodput_bytes_s=state.goodput_bytes_s,
        utilisation=state.utilisation,
        load_bytes_s=state.utilisation * state.bandwidth_bytes_s,
        queued_bytes=state.queued_bytes,
        rtt_s=state.rtt_s or None,
        congested=state.is_congested,
        scarce=state.is_scarce,
        broken=state.is_broken,
        breaker=breaker,
        requests=requests,
        budget_bytes=None if budget_gb is None else budget_gb * 1e9,
        budget_left_bytes=state.budget_left_bytes,
    )


def sites_of(config: Config, engines: Sequence[Engine]) -> tuple[Site, ...]:
    """The gateway's site first, then the others in the order of the configuration."""
    names = [config.gateway.site, *(name for name in config.sites if name != config.gateway.site)]
    there = {name: [each for each in engines if each.site == name] for name in names}
    return tuple(
        Site(
            name=name,
            is_local=name == config.gateway.site,
            engines=len(found),
            healthy_engines=sum(each.healthy and not each.draining and not each.broken for each in found),
            inflight=sum(each.inflight for each in found),
            waiting_tokens=sum(each.waiting_tokens for each in found),
        )
        for name, found in there.items()
    )


def admission_of(share: Share) -> Admission:
    """The line before the engines."""
    classes = (
        Waiting(priority=name, waiting=share.waiting[name], max_waiting=most)
        for name, most in share.max_waiting.items()
    )
    return Admission(running=share.running, max_running=share.max_running, classes=tuple(classes))


def controller_of(
    config: Config, threshold_tokens: int, seen: Seen, arrival_requests_s: float | None, now_s: float
) -> Controller:
    """t, and what the controller says of it."""
    state, advice, change = seen.state, seen.advice, seen.change
    now = state.now if state else None
    return Controller(
        mode=config.controller.mode,
        threshold_tokens=threshold_tokens,
        configured_threshold_tokens=config.policy.threshold_tokens,
        wanted_threshold_tokens=None if advice is None else threshold_of(config, advice),
        planned_threshold_tokens=state.planned_threshold_tokens if state else None,
        arrival_requests_s=arrival_requests_s,
        capacity_requests_s=now.requests_s if now else None,
        binding=now.binding if now else None,
        why=state.why if state else "",
        waits_for=state.waits_for if state else "",
        conversions=tuple(
            Conversion(engine=name, role=one.role, for_s=now_s - one.began_s) for name, one in seen.underway.items()
        ),
        last_change=None
        if change is None
        else Change(unix_s=change.unix_s, kind=change.kind, what=change.what, reasons=change.reasons),
        last_error=seen.error,
    )


def recent_of(kept: Kept) -> Recent:
    """What the last requests came to."""
    return Recent(
        requests=kept.reuse.requests,
        capacity=kept.capacity,
        since_unix_s=kept.since_unix_s,
        outcomes=kept.outcomes,
        prompt_tokens=kept.reuse.prompt_tokens,
        reused_tokens=kept.reuse.reused_tokens,
        remote_tokens=kept.remote_tokens,
        cache_bytes=kept.cache_bytes,
        early_bytes=kept.early_bytes,
        first_output_p50_s=quantile(kept.first_output_s, 0.5),
        first_output_p95_s=quantile(kept.first_output_s, 0.95),
    )
