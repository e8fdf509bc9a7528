"""Which engine is unwell, full or slow, and what does it do?"""

from deploy.grafana.panel import (
    BAD_WHEN_SET,
    GOOD_WHEN_SET,
    YES_NO,
    Dashboard,
    Panel,
    Query,
    Row,
    gauge,
    line,
    quantile,
    rate,
)

_ENGINE = "{{engine}}"


def _states(title: str, queries: list[Query], text: str, *, is_good: bool) -> Panel:
    limits = GOOD_WHEN_SET if is_good else BAD_WHEN_SET
    return Panel(title, queries, text, kind="state-timeline", limits=limits, words=YES_NO)


def _vllm(title: str, metric: str, text: str, unit: str = "none") -> Panel:
    return Panel(title, [line(rate(metric, "engine"), _ENGINE)], text, unit)


GATEWAY = Row(
    "As the gateway sees them",
    (
        _states(
            "Well",
            [line("min by (engine) (prfaas_engine_healthy)", _ENGINE)],
            "What is wrong: GET /prfaas/engines, or prfaas status.",
            is_good=True,
        ),
        _states(
            "Breaker open",
            [line("max by (engine) (prfaas_engine_breaker_open)", _ENGINE)],
            "It failed too often of late and is left alone for a while.",
            is_good=False,
        ),
        _states(
            "Takes no new requests",
            [line("max by (engine) (prfaas_engine_draining)", _ENGINE)],
            "Drained by an operator, or being converted to another role.",
            is_good=False,
        ),
        Panel(
            "Roles",
            [line("max by (engine, role) (prfaas_engine_role)", "{{engine}} {{role}}")],
            "Conversions change them.",
            kind="state-timeline",
            limits=(("text", None), ("blue", 1.0)),
            words=YES_NO,
        ),
        Panel(
            "Requests",
            [line(gauge("prfaas_engine_inflight_requests", "engine"), _ENGINE)],
            "That it works on for this gateway.",
        ),
        Panel(
            "Prompt tokens that wait",
            [line(gauge("prfaas_engine_waiting_tokens", "engine"), _ENGINE)],
            "For their prefill. Over the speed below: seconds that the next prompt waits.",
            "none",
        ),
        Panel(
            "Prefill speed",
            [line("max by (engine) (prfaas_prefill_tokens_per_second)", _ENGINE)],
            "Tokens a second, measured; empty until some prompts were.",
            "none",
        ),
        Panel(
            "Conversions",
            [
                line(rate("prfaas_controller_conversions_total", "role, outcome"), "to {{role}}: {{outcome}}"),
                line(rate("prfaas_controller_changes_total", "kind, mode"), "{{mode}}: {{kind}}"),
            ],
            "Each second. What the controller does, or in shadow would do: GET /prfaas/plan.",
            "none",
        ),
        Panel(
            "Controller",
            [
                line("max by (mode) (prfaas_controller_mode)", "{{mode}}"),
                line(rate("prfaas_controller_errors_total"), "errors a second"),
            ],
            "The mode that it is in, and looks of it that failed.",
            "none",
        ),
    ),
)

VLLM = Row(
    "As they say themselves",
    (
        Panel(
            "Running and waiting",
            [
                line(gauge("vllm:num_requests_running", "engine"), "{{engine}} running"),
                line(gauge("vllm:num_requests_waiting", "engine"), "{{engine}} waiting"),
            ],
            "Whoever sent them. Waiting for long: the engine is full, or waits for caches.",
            "none",
        ),
        Panel(
            "Blocks in use",
            [line("max by (engine) (vllm:kv_cache_usage_perc)", _ENGINE)],
            "Near 1 it preempts.",
            "percentunit",
            limits=(("green", None), ("red", 0.95)),
        ),
        _vllm(
            "Preemptions", "vllm:num_preemptions_total", "Requests that lost their blocks and begin again, a second."
        ),
        _vllm("Prompt tokens", "vllm:prompt_tokens_total", "Prefilled or found in a cache, a second."),
        _vllm("Tokens of answers", "vllm:generation_tokens_total", "Decoded, a second."),
        Panel(
            "Between two tokens, p95",
            [line(quantile(0.95, "vllm:inter_token_latency_seconds", "engine"), _ENGINE)],
            "Of running answers. It rises with the batch, with prefills beside it, and with caches that are written.",
            "s",
        ),
        Panel(
            "Queue, p95",
            [line(quantile(0.95, "vllm:request_queue_time_seconds", "engine"), _ENGINE)],
            "From a request's arrival at the engine to its first step.",
            "s",
        ),
        Panel(
            "Prefill, p95",
            [line(quantile(0.95, "vllm:request_prefill_time_seconds", "engine"), _ENGINE)],
            "From its first step to its first token.",
            "s",
        ),
        Panel(
            "Scraped",
            [line('max by (engine) (up{job="prfaas-engines"})', _ENGINE)],
            "0: Prometheus cannot reach its /metrics, and the other pictures of this row stand still.",
            kind="state-timeline",
            limits=GOOD_WHEN_SET,
            words=YES_NO,
        ),
    ),
)

DASHBOARD = Dashboard("prfaas-engines", "prfaas: engines", str(__doc__), (GATEWAY, VLLM))
