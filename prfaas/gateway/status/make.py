"""The status document, made of what the gateway holds at one moment. Reads, and changes nothing."""

from collections.abc import Sequence

from prfaas import __version__
from prfaas.config import Config, EngineConfig, LinkConfig, Role
from prfaas.fleet.breaker import State
from prfaas.fleet.fleet import EngineStatus
from prfaas.gateway.access.gate import Gate
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
    Site,
    Status,
    Waiting,
)
from prfaas.gateway.status.recent import Reuse, recent_of, reuse_by_engine
from prfaas.routing.snapshot import EngineState, LinkState

NONE_ASKED = Reuse()


def status_of(services: GatewayServices, seen: Seen, uptime_s: float) -> Status:
    """Everything, as it is now. Costs a look at the fleet and one pass over the kept decisions."""
    config, view, decisions = services.config, services.view, tuple(services.decisions)
    snapshot, reuse, now_s = view.look(), reuse_by_engine(decisions), services.clock.now_s()
    engines = tuple(
        engine_of(
            config.engines[each.name],
            each,
            services.fleet.status(each.name),
            breaker=services.fleet.breakers.of(each.name).state,
            knowledge=services.prefixes.index.state(each.name).knowledge,
            reuse=reuse.get(each.name, NONE_ASKED),
            now_s=now_s,
        )
        for each in snapshot.engines
    )
    links = tuple(
        link_of(link, state, services.fleet.link_breakers.of(ends).state, view.requests_on(ends))
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
            needs_key=services.access.needs_key,
        ),
        sites=sites_of(config, engines),
        engines=engines,
        links=links,
        admission=admission_of(services.access.gate),
        controller=controller_of(config, view.policy.threshold_tokens, seen, now_s),
        recent=recent_of(decisions, services.decisions.capacity),
    )


def engine_of(
    config: EngineConfig,
    state: EngineState,
    status: EngineStatus,
    *,
    breaker: State,
    knowledge: str,
    reuse: Reuse,
    now_s: float,
) -> Engine:
    """One engine, as placement sees it and as it is told to operators."""
    roles: tuple[tuple[Role, bool], ...] = (("prefill", state.can_prefill), ("decode", state.can_decode))
    rate = state.prefill
    return Engine(
        name=state.name,
        site=state.site,
        roles=tuple(role for role, plays in roles if plays),
        configured_roles=config.roles,
        convertible=config.convertible,
        state=state_of(status),
        state_for_s=now_s - state_since_s(status),
        problem=status.problem,
        healthy=state.is_healthy,
        draining=state.is_draining,
        broken=state.is_broken,
        breaker=breaker,
        inflight=state.inflight,
        awaiting=state.awaiting,
        waiting_tokens=state.waiting_tokens,
        wait_s=rate.queue_seconds(state.waiting_tokens) if rate else None,
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


def admission_of(gate: Gate) -> Admission:
    """The line before the engines."""
    classes = (
        Waiting(priority=name, waiting=gate.waiting(name), max_waiting=most) for name, most in gate.max_waiting.items()
    )
    return Admission(running=gate.running, max_running=gate.max_running, classes=tuple(classes))


def controller_of(config: Config, threshold_tokens: int, seen: Seen, now_s: float) -> Controller:
    """t, and what the controller says of it."""
    state, advice, change = seen.state, seen.advice, seen.change
    now = state.now if state else None
    return Controller(
        mode=config.controller.mode,
        threshold_tokens=threshold_tokens,
        configured_threshold_tokens=config.policy.threshold_tokens,
        wanted_threshold_tokens=None if advice is None else threshold_of(config, advice),
        planned_threshold_tokens=state.planned_threshold_tokens if state else None,
        arrival_requests_s=state.estimates.requests_s if state else None,
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
