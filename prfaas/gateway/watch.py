"""Watching one engine: is it well, and does it make the same tokens as the gateway?"""

import logging
from collections.abc import Mapping
from typing import Any

from prfaas.errors import EngineUnavailable
from prfaas.gateway.prompt.parity import mismatches
from prfaas.gateway.services import GatewayServices
from prfaas.gateway.upstream import EngineLate

PROBE_TIMEOUT_S = 2.0
"""A busy engine answers its health endpoint late, but in this time."""
MAX_LATE = 2
"""An engine that is late so often in a row is not fit for new requests. Once may be a long step, and taking an engine
out for that sends all its work elsewhere."""

log = logging.getLogger(__name__)


class EngineWatch:
    """The probe of the fleet's prober.

    An engine that becomes well is asked first which adapters it has, if some are configured, and a local decode engine
    has its tokens compared: as long as that cannot be done it is not well, so that no request meets an engine of which
    it is unknown whether it can serve it and makes the gateway's tokens. Whatever engine becomes well, what it was
    guessed to have cached is guessed no more.
    """

    def __init__(self, services: GatewayServices) -> None:
        self._services = services
        self._decoders = services.config.engines_able(services.config.gateway.site, "decode")
        self._late = dict.fromkeys(services.config.engines, 0)

    async def probe(self, engine: str) -> str:
        """The engine's problem in words, empty when it is well."""
        problem = await self._health_problem(engine)
        if not problem and not self._services.fleet.status(engine).is_healthy:
            self._services.prefixes.was_away(engine)
        if problem or not self._services.fleet.status(engine).is_healthy:
            self._services.tokenizer.forget(engine)
            self._services.fleet.note_adapters(engine, None)
        problem = problem or await self._learn_adapters(engine)
        if engine not in self._decoders:
            return problem
        return problem or await self._compare_tokens(engine)

    async def _health_problem(self, engine: str) -> str:
        """What its health endpoint says. A well engine that is late stays well until it is that ``MAX_LATE`` times."""
        late, self._late[engine] = self._late[engine] + 1, 0
        try:
            await self._services.upstream.probe(engine, PROBE_TIMEOUT_S)
        except EngineLate as error:
            self._late[engine] = late
            is_excused = late < MAX_LATE and self._services.fleet.status(engine).is_healthy
            return "" if is_excused else str(error)
        except EngineUnavailable as error:
            return str(error)
        return ""

    async def _learn_adapters(self, engine: str) -> str:
        """Ask for its adapters unless that is done or none matter. Returns why that cannot be done, else empty."""
        services, wanted = self._services, self._services.config.model.adapters
        if not wanted or services.fleet.status(engine).adapters is not None:
            return ""
        try:
            adapters = await services.upstream.adapters(engine, PROBE_TIMEOUT_S)
        except EngineUnavailable as error:
            return f"its adapters are not known: {error}"
        services.fleet.note_adapters(engine, adapters)
        for name, path in wanted.items():
            if adapters.get(name) != path:
                what = f"has the adapter {name} from another path" if name in adapters else f"lacks the adapter {name}"
                log.warning("engine %s %s: requests for it pass the engine over", engine, what)
        return ""

    async def _compare_tokens(self, engine: str) -> str:
        """Compare unless that is done. Returns why it cannot be done, empty when it is."""
        tokenizer = self._services.tokenizer
        if tokenizer.knows(engine):
            return ""

        async def ask(body: Mapping[str, Any]) -> list[int] | None:
            request = {"model": self._services.config.model.name, **body}
            return await self._services.upstream.tokenise(engine, request, PROBE_TIMEOUT_S)

        try:
            differing = await mismatches(tokenizer.unchecked, ask)
        except EngineUnavailable as error:
            return f"its tokens cannot be compared with the gateway's: {error}"
        tokenizer.note(engine, differing)
        if differing:
            log.error("engine %s makes other tokens of %s: all prompts stay local", engine, ", ".join(differing))
        return ""
