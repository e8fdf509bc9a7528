"""Why are requests slow, refused or wrong, and whose are they?"""

from deploy.grafana.panel import Dashboard, Panel, Row, gauge, line, quantile, quantiles, rate

_STAGES = "prfaas_stage_seconds"


def _stages(placement: str) -> Panel:
    where = f'placement="{placement}"'
    return Panel(
        f"Stages of {placement} requests, p95",
        [line(quantile(0.95, _STAGES, "stage", where), "{{stage}}")],
        "queue: the gate. prefill: the engine that computes. transfer: first to last byte of the cache. inject: what "
        "was left to write after that. first_token: the decode engine. recompute, failed_try: something went wrong.",
        "s",
        width=12,
    )


SLOW = Row(
    "Slow",
    (
        Panel(
            "First token, local",
            [
                line(
                    quantile(share, "prfaas_time_to_first_token_seconds", where='placement="local"'),
                    f"p{share * 100:g}",
                )
                for share in (0.5, 0.95, 0.99)
            ],
            "Of streamed answers, from the request's arrival.",
            "s",
        ),
        Panel(
            "First token, remote",
            [
                line(
                    quantile(share, "prfaas_time_to_first_token_seconds", where='placement="remote"'),
                    f"p{share * 100:g}",
                )
                for share in (0.5, 0.95, 0.99)
            ],
            "Of streamed answers, from the request's arrival; recomputed ones included.",
            "s",
        ),
        Panel(
            "Whole requests",
            quantiles("prfaas_request_seconds", "placement"),
            "From the arrival to the end of the answer.",
            "s",
        ),
        _stages("local"),
        _stages("remote"),
        Panel(
            "Wait for the turn, p95",
            [line(quantile(0.95, "prfaas_queue_seconds", "priority"), "{{priority}}")],
            "At the gate, by class. Long waits: access.max_running is reached.",
            "s",
        ),
        Panel(
            "Waiting now", [line(gauge("prfaas_waiting_requests", "priority"), "{{priority}}")], "Requests at the gate."
        ),
        Panel(
            "Prediction",
            quantiles("prfaas_first_token_prediction_ratio", "placement"),
            "Measured over predicted time to the first token. Far from 1, predictive placement and brown-outs err.",
            "none",
        ),
    ),
)

REFUSED = Row(
    "Refused, and whose",
    (
        Panel(
            "Before placement",
            [line(rate("prfaas_rejected_requests_total", "status"), "{{status}}")],
            "The gateway's own refusals: 401 and 403 keys, 429 limits and queues, 503 nothing that could serve.",
            "reqps",
        ),
        Panel(
            "By tenant and code",
            [line(rate("prfaas_tenant_refused_requests_total", "tenant, code"), "{{tenant}}: {{code}}")],
            "An empty tenant: unknown keys, or a gateway without tenants.",
            "reqps",
        ),
        Panel(
            "Statuses",
            [line(rate("prfaas_requests_total", "status"), "{{status}}")],
            "Of placed requests; 0 where the client left before there was one.",
            "reqps",
        ),
        Panel(
            "Let in, by tenant",
            [line(rate("prfaas_tenant_requests_total", "tenant, priority"), "{{tenant}} {{priority}}")],
            "Requests a second.",
            "reqps",
        ),
        Panel(
            "Tokens, by tenant",
            [line(rate("prfaas_tenant_tokens_total", "tenant"), "{{tenant}}")],
            "Of prompts and answers, each second.",
            "none",
        ),
        Panel(
            "Uncached tokens of a prompt",
            quantiles("prfaas_uncached_prompt_tokens", "placement"),
            "What the threshold is compared with.",
            "none",
        ),
    ),
)

GATEWAY = Row(
    "The gateway's process",
    (
        Panel(
            "Event loop lag, p99",
            [line(quantile(0.99, "prfaas_event_loop_lag_seconds"), "lag")],
            "All streams wait so long for the gateway itself. Above some 20 ms: more gateway.workers.",
            "s",
        ),
        Panel(
            "Processor",
            [line('sum(rate(process_cpu_seconds_total{job="prfaas-gateway"}[$__rate_interval]))', "cores in use")],
            "All workers together; one worker can use one.",
            "none",
        ),
        Panel(
            "Memory",
            [line('sum(process_resident_memory_bytes{job="prfaas-gateway"})', "resident")],
            "All workers together.",
            "bytes",
        ),
        Panel(
            "Descriptors",
            [
                line(
                    'sum(process_open_fds{job="prfaas-gateway"}) / sum(process_max_fds{job="prfaas-gateway"})',
                    "in use",
                )
            ],
            "A streamed request takes two. At 1 no connection is accepted.",
            "percentunit",
        ),
        Panel(
            "Workers",
            [line("sum(prfaas_workers)", "workers"), line("count by (version) (prfaas_build_info)", "{{version}}")],
            "Processes, and gateways by version: two versions while one is being upgraded.",
            "none",
        ),
    ),
)

DASHBOARD = Dashboard("prfaas-requests", "prfaas: requests", str(__doc__), (SLOW, REFUSED, GATEWAY))
