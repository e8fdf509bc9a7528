"""Where the time of requests goes, stage by stage, and how much of their prompts is computed."""

from prfaas.observe.decisions import Decision
from prfaas.observe.definitions import Definitions
from prfaas.observe.timeline import timeline

_STAGE_BUCKETS_S = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 120)
"""From writing a few bytes into an engine's blocks to a very long prefill."""
_TOTAL_BUCKETS_S = (0.05, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600)
_TOKEN_BUCKETS = (16, 64, 256, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072, 262144)


class StageMetrics:
    """Metrics by placement: ``local`` or ``remote``, as decided."""

    def __init__(self, definitions: Definitions) -> None:
        self._stage_s = definitions.histogram(
            "prfaas_stage_seconds",
            "How long each stage of answered requests took; stages overlap where the work did.",
            _STAGE_BUCKETS_S,
            ["stage", "placement"],
        )
        self._total_s = definitions.histogram(
            "prfaas_request_seconds", "From a request's arrival to its end.", _TOTAL_BUCKETS_S, ["placement"]
        )
        self._prompt_tokens = definitions.counter(
            "prfaas_prompt_tokens_total", "Prompt tokens of placed requests whose tokens are known.", ["placement"]
        )
        self._uncached_tokens = definitions.histogram(
            "prfaas_uncached_prompt_tokens",
            "Tokens of a prompt that no prefix cache was expected to have: what the threshold is compared with.",
            _TOKEN_BUCKETS,
            ["placement"],
        )

    def count(self, decision: Decision) -> None:
        """A placed request that has ended."""
        placement = decision.placement
        if decision.total_s is not None:
            self._total_s.labels(placement).observe(decision.total_s)
        if decision.prompt_tokens is not None and decision.uncached_tokens is not None:
            self._prompt_tokens.labels(placement).inc(decision.prompt_tokens)
            self._uncached_tokens.labels(placement).observe(decision.uncached_tokens)
        if decision.first_output_s is None or decision.status != 200:
            return  # what ended before an output says nothing of how long stages take
        for stage in timeline(decision, {}, ""):
            if stage.end_s is not None:
                name = stage.stage.replace(" ", "_")
                self._stage_s.labels(name, placement).observe(max(0.0, stage.end_s - stage.begin_s))
