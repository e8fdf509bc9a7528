"""Is everything well, and if not, where to look?"""

from deploy.grafana.panel import (
    BAD_WHEN_SET,
    GOOD_BELOW,
    GOOD_WHEN_SET,
    YES_NO,
    Dashboard,
    Panel,
    Row,
    gauge,
    line,
    mean,
    quantile,
    quantiles,
    rate,
)

_ALL = rate("prfaas_requests_total")
_BAD = "(" + rate("prfaas_requests_total", where='outcome="error"') + " or vector(0))"
_REMOTE = "(" + rate("prfaas_requests_total", where='placement="remote"') + " or vector(0))"
_TTFT = "prfaas_time_to_first_token_seconds"

NOW = Row(
    "Now",
    (
        Panel(
            "Ready",
            [line("min(prfaas_ready)")],
            "A local decode engine is well and takes requests. If not: Engines.",
            kind="stat",
            width=3,
            limits=GOOD_WHEN_SET,
            words=YES_NO,
        ),
        Panel(
            "Alerts",
            [line('count(ALERTS{alertstate="firing"}) or vector(0)')],
            "How many fire. docs/operations.md says what each means.",
            kind="stat",
            width=3,
            limits=BAD_WHEN_SET,
        ),
        Panel("Requests", [line(_ALL)], "Answered requests a second.", "reqps", "stat", 3),
        Panel(
            "Errors",
            [line(f"{_BAD} / ({_ALL} > 0) or vector(0)")],
            "Share of requests that ended in an error. If above 0: faults below, then Requests.",
            "percentunit",
            "stat",
            3,
            (GOOD_BELOW, ("orange", 0.01), ("red", 0.05)),
        ),
        Panel(
            "First token, p95",
            [line(quantile(0.95, _TTFT))],
            "Of streamed answers, from the request's arrival.",
            "s",
            "stat",
            3,
        ),
        Panel(
            "Remote",
            [line(f"{_REMOTE} / ({_ALL} > 0) or vector(0)")],
            "Share of requests that were placed for a prefill in another site.",
            "percentunit",
            "stat",
            3,
        ),
        Panel(
            "Link in use",
            [line("max(prfaas_site_link_utilisation_ratio)")],
            "The busiest link's share of its bandwidth.",
            "percentunit",
            "stat",
            3,
            (GOOD_BELOW, ("orange", 0.8), ("red", 0.95)),
        ),
        Panel(
            "Engines unwell",
            [line("count(prfaas_engine_healthy == 0) or vector(0)")],
            "Engines that no good word was heard of lately.",
            kind="stat",
            width=3,
            limits=BAD_WHEN_SET,
        ),
    ),
)

REQUESTS = Row(
    "Requests",
    (
        Panel(
            "By placement and outcome",
            [line(rate("prfaas_requests_total", "placement, outcome"), "{{placement}} → {{outcome}}")],
            "remote → recomputed means that the prefill elsewhere was in vain.",
            "reqps",
            is_stacked=True,
        ),
        Panel(
            "First token",
            quantiles(_TTFT, "placement"),
            "Of streamed answers, from the request's arrival. What is slow about it: the next picture.",
            "s",
        ),
        Panel(
            "Where the time of remote requests goes",
            [
                line(
                    mean("prfaas_stage_seconds", "stage", 'placement="remote", stage!~"answer|whole_answer"'),
                    "{{stage}}",
                )
            ],
            "Mean seconds of each stage. Stages overlap where the work did, so they do not add up.",
            "s",
        ),
        Panel(
            "Waiting and working",
            [
                line(gauge("prfaas_inflight_requests"), "in the gateway"),
                line(gauge("prfaas_waiting_requests"), "waiting for their turn"),
            ],
            "If many wait, engines are full or too few: Engines.",
        ),
        Panel(
            "Recomputed",
            [line(rate("prfaas_recompute_causes_total", "reason"), "{{reason}}")],
            "Remote prefills that were recomputed here, by cause. transfer, stalled: Link. declined: engines' logs.",
            "reqps",
        ),
        Panel(
            "Faults",
            [line(rate("prfaas_faults_total", "stage, reason"), "{{stage}}: {{reason}}")],
            "Most are made good by another try. docs/operations.md says whom each counts against.",
            "reqps",
        ),
    ),
)

FLEET = Row(
    "Fleet",
    (
        Panel(
            "Link: used and carried",
            [
                line(rate("prfaas_site_link_bytes_total", "source, target"), "{{source}} → {{target}}"),
                line(
                    gauge("prfaas_site_link_bandwidth_bytes_per_second", "source, target"),
                    "{{source}} → {{target}}: bandwidth",
                ),
            ],
            "Cache bytes that cross each link, and what the configuration says that it carries.",
            "Bps",
        ),
        Panel(
            "Threshold t",
            [
                line("max(prfaas_controller_threshold_tokens)", "in force"),
                line("max(prfaas_controller_wanted_threshold_tokens)", "what the controller would have"),
            ],
            "A prompt with more uncached tokens is prefilled in another site.",
            "none",
        ),
        Panel(
            "Demand and capacity",
            [
                line("max(prfaas_controller_arrival_requests_per_second)", "arrives"),
                line("max(prfaas_controller_capacity_requests_per_second)", "is served as the fleet is divided"),
            ],
            "By the controller's model. Empty until it has a plan.",
            "reqps",
        ),
    ),
)

DASHBOARD = Dashboard("prfaas-overview", "prfaas: overview", str(__doc__), (NOW, REQUESTS, FLEET))
