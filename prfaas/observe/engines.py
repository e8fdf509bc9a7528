"""How every engine is, as the gateway sees it."""

import math
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from prfaas.observe.definitions import Definitions
from prfaas.prefix import KNOWLEDGE

ROLES = ("prefill", "decode")


@dataclass(frozen=True, slots=True)
class EngineFigures:
    """One engine at one moment.

    Attributes:
        roles: what it does now.
        knowledge: how its prefix cache is known, one of ``KNOWLEDGE``.
        inflight: requests of this process that it works on.
        waiting_tokens: prompt tokens of this process that wait there for their prefill.
        prefill_tokens_s: as measured, None until enough prompts were.
    """

    site: str
    roles: Collection[str]
    is_healthy: bool
    is_draining: bool
    is_breaker_open: bool
    knowledge: str
    inflight: int
    waiting_tokens: int
    prefill_tokens_s: float | None


class EngineMetrics:
    """Metrics by engine."""

    def __init__(self, definitions: Definitions) -> None:
        gauge, engine = definitions.gauge, ["engine"]
        self._healthy = gauge("prfaas_engine_healthy", "1 when the engine is well.", engine)
        self._draining = gauge(
            "prfaas_engine_draining", "1 while the engine takes no new requests: drained, or being converted.", engine
        )
        self._open = gauge("prfaas_engine_breaker_open", "1 while the engine's circuit breaker is open.", engine)
        self._role = gauge("prfaas_engine_role", "1 for what the engine does now.", ["engine", "site", "role"])
        self._knowledge = gauge(
            "prfaas_prefix_knowledge",
            "How the engine's prefix cache is known, 1 for what is so: exact, partial (events were lost) or guessed.",
            ["engine", "knowledge"],
        )
        self._prefill_speed = gauge(
            "prfaas_prefill_tokens_per_second",
            "How fast the engine prefills a long prompt, as measured; absent until enough prompts were.",
            engine,
        )
        self._inflight = gauge(
            "prfaas_engine_inflight_requests", "Requests that the engine works on for this gateway.", engine, "livesum"
        )
        self._waiting = gauge(
            "prfaas_engine_waiting_tokens", "Prompt tokens that wait there for their prefill.", engine, "livesum"
        )
        self._sites: dict[str, str] = {}

    def tell(self, engine: str, now: EngineFigures) -> None:
        """What is so now."""
        if self._sites.setdefault(engine, now.site) != now.site:
            self.forget(engine)  # moved: its role in the former site is none of its own any more
            self._sites[engine] = now.site
        self._healthy.labels(engine).set(int(now.is_healthy))
        self._draining.labels(engine).set(int(now.is_draining))
        self._open.labels(engine).set(int(now.is_breaker_open))
        for role in ROLES:
            self._role.labels(engine, now.site, role).set(int(role in now.roles))
        for word in KNOWLEDGE:
            self._knowledge.labels(engine, word).set(int(word == now.knowledge))
        if now.prefill_tokens_s is not None:
            self._prefill_speed.labels(engine).set(now.prefill_tokens_s)
        self._inflight.labels(engine).set(now.inflight)
        self._waiting.labels(engine).set(now.waiting_tokens)

    def forget(self, engine: str) -> None:
        """The engine was taken out of the configuration. Several workers' files keep their last value for good: it is
        one that tells of nothing."""
        for gauge in (self._healthy, self._draining, self._open, self._inflight, self._waiting):
            gauge.labels(engine).set(0)
            with suppress(KeyError):
                gauge.remove(engine)
        if (site := self._sites.pop(engine, None)) is not None:
            for role in ROLES:
                self._role.labels(engine, site, role).set(0)
        for word in KNOWLEDGE:
            self._knowledge.labels(engine, word).set(0)
        self._prefill_speed.labels(engine).set(math.nan)  # no speed at all, which 0 would be
        for by_more in (self._role, self._knowledge, self._prefill_speed):
            by_more.remove_by_labels({"engine": engine})
