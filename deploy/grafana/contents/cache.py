"""How much of the prompts need not be computed, and how well is it known?"""

from deploy.grafana.panel import Dashboard, Panel, Row, gauge, line, quantiles, rate

_ALL = rate("prfaas_prompt_tokens_total")
_HITS = rate("vllm:prefix_cache_hits_total", "engine")
_LOOKED_UP = rate("vllm:prefix_cache_queries_total", "engine")
_UNCACHED = rate("prfaas_uncached_prompt_tokens_sum")

PROMPTS = Row(
    "Prompts",
    (
        Panel(
            "Cached share, as expected at placement",
            [line(f"1 - {_UNCACHED} / ({_ALL} > 0)", "expected")],
            "Of the tokens of placed requests. The engines' own word is in the next picture: where they differ, "
            "placement goes by what is not so.",
            "percentunit",
        ),
        Panel(
            "Cached share, as the engines count",
            [
                line(f"{_HITS} / ({_LOOKED_UP} > 0)", "{{engine}}"),
            ],
            "Of the tokens that vLLM looked up in its own prefix cache.",
            "percentunit",
        ),
        Panel(
            "Tokens by what became of them",
            [
                line(_UNCACHED, "to compute"),
                line(f"{_ALL} - {_UNCACHED}", "expected in a cache"),
                line(rate("prfaas_remote_tokens_total"), "came from another site"),
                line(rate("prfaas_site_transfer_tokens_total"), "came from another engine of the site"),
            ],
            "Each second. What came over a link was computed elsewhere, and is part of the first.",
            "none",
        ),
        Panel(
            "Uncached tokens of a prompt",
            quantiles("prfaas_uncached_prompt_tokens", "placement"),
            "Above t prompts go to another site.",
            "none",
        ),
        Panel(
            "Tokens loaded over links, as the engines count",
            [line(rate("vllm:external_prefix_cache_hits_total", "engine"), "{{engine}}")],
            "vLLM's count of tokens that our connector brought.",
            "none",
        ),
        Panel(
            "Blocks in use",
            [line("max by (engine) (vllm:kv_cache_usage_perc)", "{{engine}}")],
            "Near 1 engines preempt, and caches are evicted early.",
            "percentunit",
            limits=(("green", None), ("red", 0.95)),
        ),
    ),
)

KNOWLEDGE = Row(
    "How well caches are known",
    (
        Panel(
            "Known exactly",
            [line('max by (engine) (prfaas_prefix_knowledge{knowledge="exact"})', "{{engine}}")],
            "Else events were lost, or there is no feed and the cache is guessed from what was sent to the engine.",
            kind="state-timeline",
            limits=(("orange", None), ("green", 1.0)),
            words=(("0", "partly or guessed"), ("1", "exactly")),
        ),
        Panel(
            "Guessed",
            [line(gauge("prfaas_prefix_knowledge", "engine", 'knowledge="guessed"'), "{{engine}}")],
            "1 while there is no feed: cache events are off, or the mover cannot be reached.",
            "none",
        ),
        Panel(
            "Feed losses",
            [
                line(rate("prfaas_prefix_feed_gaps_total", "engine"), "{{engine}} gaps"),
                line(rate("prfaas_prefix_feed_losses_total", "engine"), "{{engine}} losses"),
                line(rate("prfaas_prefix_feed_garbage_total", "engine"), "{{engine}} unreadable"),
            ],
            "A gap is healed by a replay; after a loss the cache is known in part until what was there is evicted.",
            "none",
        ),
    ),
)

DASHBOARD = Dashboard("prfaas-cache", "prfaas: cache", str(__doc__), (PROMPTS, KNOWLEDGE))
