"""The way of a request: who asks, read, parse, tokenise, wait for its turn, place; the relay does the rest."""

import asyncio
from contextlib import ExitStack

import numpy as np
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from prfaas.errors import RequestRejected
from prfaas.fleet.block_hash import ContentKeys
from prfaas.gateway.access.request_id import given_id
from prfaas.gateway.access.visit import Visit
from prfaas.gateway.access.visited import Visited
from prfaas.gateway.api_request import PATHS, ApiRequest, Endpoint, check_known, parse_request
from prfaas.gateway.body import decode_object, read_body
from prfaas.gateway.client import unless_left
from prfaas.gateway.control.demand import uncached_here
from prfaas.gateway.error_shape import error_response, shape_of
from prfaas.gateway.features import features_of
from prfaas.gateway.live import Live
from prfaas.gateway.openai_error import stopping, timed_out
from prfaas.gateway.passthrough import PASSED, UNTOUCHED, WITHOUT_TOKENS, expected_tokens, parse_passed
from prfaas.gateway.payload import Transfer
from prfaas.gateway.prefix_hits import Hits
from prfaas.gateway.prompt.tokens import PromptTokens
from prfaas.gateway.record import Job, log, refused
from prfaas.gateway.relay import Relay
from prfaas.gateway.services import GatewayServices
from prfaas.observe.logs import REQUEST_ID
from prfaas.routing.place import place
from prfaas.routing.placement import Placement, Refusal
from prfaas.tracing import NO_SPAN, Span, TraceContext


async def handle(live: Live, endpoint: Endpoint, request: Request) -> Response:
    """Answer one generation request; the response runs it when it is called."""
    services = live.now
    started_s = services.clock.now_s()
    request_id = given_id(request.headers) or services.ids.request_id()
    REQUEST_ID.set(request_id)
    visit: Visit | None = None
    span: Span = NO_SPAN  # until the key is accepted: strangers would fill the collector, in traces of their choice
    try:
        with ExitStack() as unless_placed:
            visit = services.access.visit(request.headers)
            span = _span(services, endpoint, request, request_id)
            visit.begin()
            unless_placed.callback(visit.close)
            async with asyncio.timeout(services.config.gateway.request_timeout_s):
                relay = await _relay(live, endpoint, request, visit, request_id, started_s, span)
            unless_placed.pop_all()
            shape = shape_of(PATHS[endpoint]) if endpoint in PASSED else None
            return Visited(relay, visit, shape, services.demand.note_answer)
    except RequestRejected as error:
        rejection = error
    except TimeoutError:
        rejection = timed_out()
    except asyncio.CancelledError:
        # The server cancels a request once, when its patience at shutdown ends; what follows is the end it wants.
        rejection = stopping()
    except ClientDisconnect:
        about = {"event": "request ended", "endpoint": endpoint, "outcome": "cancelled"}
        log.info("%s %s cancelled before it was placed", request_id, endpoint, extra=about)
        span.note(outcome="cancelled")
        span.end()
        return Response(status_code=400)
    except Exception as bug:  # of ours: told to the client and logged by whoever called
        span.fail(type(bug).__name__)
        span.end()
        raise
    return _rejected(services, endpoint, visit, rejection, request_id, span)


def _span(services: GatewayServices, endpoint: Endpoint, request: Request, request_id: str) -> Span:
    """The request's, within the client's if it says of one."""
    tracer, theirs = services.tracer, None
    if tracer.is_on:
        theirs = TraceContext.parse(request.headers.get("traceparent"), request.headers.get("tracestate", ""))
    return tracer.span("request", theirs, kind="server", request_id=request_id, endpoint=endpoint)


async def _relay(
    live: Live,
    endpoint: Endpoint,
    request: Request,
    visit: Visit,
    request_id: str,
    started_s: float,
    span: Span,
) -> Relay:
    arrived = live.now
    api_request, prompt, read_s = await _prepared(arrived, endpoint, request, visit, span)
    tokenised_s = arrived.clock.now_s()
    if not visit.enter_now():
        with arrived.tracer.span("turn", span, priority=visit.priority):
            await unless_left(request.receive, visit.enter())
    with arrived.tracer.span("place", span) as placing:
        hits = await _hits(live.now, api_request, prompt)
        services = live.now
        if services is not arrived:  # what has been forbidden meanwhile is forbidden to this request, too
            visit.follow(services.access)
            check_known(api_request, services.config.model)
        # From here to the engines nothing waits: the request is placed by the configuration of now, and keeps it.
        adapter = services.config.model.adapter(api_request.body.get("model"))
        features = features_of(
            api_request,
            prompt,
            hits=hits.tokens if hits else None,
            tenant_sites=visit.tenant.sites,
            first_token_slo_s=visit.objective_s(services.view.policy.slo_first_token_s),
            adapter=adapter[0] if adapter else None,
        )
        placement = place(features, services.view.snapshot(), services.view.policy)
        placing.note(outcome="refused" if isinstance(placement, Refusal) else placement.kind)
    placed_s = services.clock.now_s()
    if (uncached := uncached_here(features, placement, visit.expected_tokens)) is not None:
        services.demand.note_arrival(placed_s, uncached)
    placed_after_s, read_after_s, tokenised_after_s = (at_s - started_s for at_s in (placed_s, read_s, tokenised_s))
    if isinstance(placement, Refusal):
        raise refused(
            services,
            request_id,
            endpoint,
            features,
            placement,
            placed_after_s=placed_after_s,
            read_after_s=read_after_s,
            tokenised_after_s=tokenised_after_s,
            tenant=visit.tenant.name,
            waited_s=visit.waited_s,
        )
    if hits is not None:
        for engine in {placement.decode, placement.prefill_engine}:
            services.prefixes.sent(engine, hits)
    job = Job(
        request_id,
        api_request,
        prompt,
        placement,
        _transfer(services, placement),
        started_s,
        placed_after_s,
        tenant=visit.tenant.name,
        waited_s=visit.waited_s,
        arrived_unix_s=services.unix_s() - placed_after_s,
        read_after_s=read_after_s,
        tokenised_after_s=tokenised_after_s,
        span=span,
    )
    return Relay(services, job)


async def _hits(services: GatewayServices, request: ApiRequest, prompt: PromptTokens) -> Hits | None:
    """What engines have cached of the prompt, None where its tokens are not known."""
    if prompt.ids is None:
        return None
    keys = ContentKeys(request.cache_salt, services.config.model.adapter(request.body.get("model")))
    return await services.prefixes.of(np.frombuffer(prompt.ids.packed, np.uint32), keys)


async def _prepared(
    services: GatewayServices, endpoint: Endpoint, request: Request, visit: Visit, span: Span
) -> tuple[ApiRequest, PromptTokens, float]:
    """The request, checked and salted, and its prompt, for which the tenant has been charged; and when it was read."""
    raw = await read_body(request, services.config.gateway.max_body_bytes)
    read_s = services.clock.now_s()
    body, model = decode_object(raw), services.config.model
    is_passed = endpoint in PASSED
    api_request = parse_passed(endpoint, body, model) if is_passed else parse_request(endpoint, body, model, raw)
    if endpoint not in WITHOUT_TOKENS:
        api_request = visit.tenant.salted(api_request)
    prompt = UNTOUCHED if is_passed else services.tokenizer.tokens_now(api_request, services.view.tokenise_above)
    if prompt is None:
        with services.tracer.span("tokenise", span):
            prompt = await unless_left(request.receive, services.tokenizer.tokens_of(api_request))
    visit.charge(expected_tokens(api_request, prompt, len(raw)))
    return api_request, prompt, read_s


def _rejected(
    services: GatewayServices,
    endpoint: Endpoint,
    visit: Visit | None,
    error: RequestRejected,
    request_id: str,
    span: Span,
) -> Response:
    """The gateway's own answer, counted and logged; ``visit`` is None when nobody knows whose request it was."""
    services.metrics.count_rejected(error.status)
    tenant = visit.refused(error) if visit else "-"
    said = "%s %s rejected status=%s code=%s tenant=%s"
    about = {"endpoint": endpoint, "outcome": "rejected", "status": error.status, "code": error.code, "tenant": tenant}
    log.info(said, request_id, endpoint, error.status, error.code, tenant, extra={**about, "event": "request ended"})
    span.note(**about)
    span.end()
    headers = {**(visit.headers() if visit else {}), **_rejection_headers(request_id, error)}
    return error_response(error, PATHS[endpoint], headers)


def _transfer(services: GatewayServices, placement: Placement) -> Transfer | None:
    if placement.prefill is None:
        return None
    return Transfer(
        transfer_id=services.ids.transfer_id(),
        secret=services.ids.secret(),
        remote=services.config.engines[placement.prefill].kv,
        timeout_s=services.config.policy.remote_timeout_s,
    )


def _rejection_headers(request_id: str, error: RequestRejected) -> dict[str, str]:
    """The rest of a body that was not read cannot be told from a next request, so the connection ends."""
    headers = {"x-request-id": request_id}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(error.retry_after_s)
    return {**headers, "connection": "close"} if error.status in (408, 413, 503, 504) else headers
