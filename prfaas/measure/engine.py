"""A running vLLM engine as its clients see it; the seam where the HTTP client's errors become ours."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from prfaas.clock import Clock
from prfaas.errors import ConfigError, EngineUnavailable
from prfaas.planner.families import AUTO, CacheTypes

SILENCE_S = 600.0
"""No prefill takes longer (``planner.profile.SLOWEST_PREFILL_S``)."""
QUESTION_S = 30.0
"""For questions that compute nothing; an engine whose processor is busy answers them late."""
SETTLE_S, POLL_S = 5.0, 0.05
"""An engine tells of a request's end a step later; somebody else's request is there for longer."""
ERROR_CHARS = 300
"""Of an engine's own words: enough for the reason."""
KEEP_ALIVE_S = 3.0
"""Shorter than the 5 s after which vLLM closes an idle connection; a new one costs a prefill another round trip."""
READ_BYTES = 1 << 22
"""Room for the longest line of a stream: the first one may repeat the prompt."""
COMPLETIONS = "/v1/completions"
JSON = {"content-type": "application/json"}


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What an engine says of itself.

    Attributes:
        version: of vLLM.
        model: its name in requests.
        root: where it was loaded from, as the engine sees it.
        max_tokens: of prompt and answer together, None if it does not say.
        cache: vLLM's cache settings by name, as text.
    """

    version: str
    model: str
    root: str
    max_tokens: int | None
    cache: Mapping[str, str]

    @property
    def cache_types(self) -> CacheTypes:
        """What its caches are made of, as far as it says: a platform may choose other types than the model's."""
        attention, conv, state = (
            self.cache.get(name, AUTO) for name in ("cache_dtype", "mamba_cache_dtype", "mamba_ssm_cache_dtype")
        )
        return CacheTypes(attention, conv, state)


@dataclass(frozen=True, slots=True)
class Load:
    """An engine's counts at one moment.

    Attributes:
        running: requests in its steps.
        waiting: requests that wait for them.
        finished: requests since it began.
        hit_tokens: prompt tokens that its prefix cache had, since it began.
        preemptions: requests that lost their blocks, since it began.
    """

    running: int
    waiting: int
    finished: int
    hit_tokens: int
    preemptions: int


def session(api_key: str | None = None, **connector: Any) -> aiohttp.ClientSession:
    """For an ``Engine``: as many connections as a batch has requests."""
    headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
    timeout = aiohttp.ClientTimeout(total=None, connect=QUESTION_S, sock_read=SILENCE_S)
    tcp = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S, **connector)
    return aiohttp.ClientSession(timeout=timeout, connector=tcp, read_bufsize=READ_BYTES, headers=headers)


def encoded(body: Mapping[str, Any]) -> bytes:
    """A request's body."""
    return json.dumps(body).encode()


class Engine:
    """Asks one engine; the session stays the caller's."""

    def __init__(self, http: aiohttp.ClientSession, url: str, clock: Clock) -> None:
        self._http, self.url, self.clock = http, url.rstrip("/"), clock

    def at(self, url: str) -> "Engine":
        """Another engine, or a gateway, over the same session."""
        return Engine(self._http, url, self.clock)

    async def facts(self, model: str | None = None) -> EngineFacts:
        """What it says of itself, and of ``model`` or of its only one. Raises ConfigError, EngineUnavailable."""
        version = json.loads(await self._text("/version")).get("version", "unknown")
        cards = [card for card in json.loads(await self._text("/v1/models"))["data"] if not card.get("parent")]
        card = next((card for card in cards if model in (None, card["id"])), None)
        if card is None:
            known = ", ".join(card["id"] for card in cards)
            raise ConfigError(f"{self.url} serves no model {model!r}; there are: {known or 'none'}")
        cache = (await self._metrics()).get("vllm:cache_config_info") or [({}, 0.0)]
        return EngineFacts(version, card["id"], card.get("root") or "", card.get("max_model_len"), cache[0][0])

    async def load(self) -> Load:
        """Its counts now. Raises EngineUnavailable."""
        metrics = await self._metrics()
        if "vllm:num_requests_running" not in metrics:
            raise EngineUnavailable(f"{self.url}/metrics tells of no requests: is this a vLLM engine, with metrics on?")

        def total(name: str) -> int:
            return round(sum(value for _, value in metrics.get(name, ())))

        return Load(
            running=total("vllm:num_requests_running"),
            waiting=total("vllm:num_requests_waiting"),
            finished=total("vllm:request_success_total"),
            hit_tokens=total("vllm:prefix_cache_hits_total"),
            preemptions=total("vllm:num_preemptions_total"),
        )

    async def idle(self) -> Load:
        """Its counts once it has nothing to do. Raises EngineUnavailable when others keep it busy."""
        until_s = self.clock.now_s() + SETTLE_S
        while True:
            load = await self.load()
            if load.running == load.waiting == 0:
                return load
            if self.clock.now_s() > until_s:
                raise EngineUnavailable(
                    f"{self.url} is busy with requests of others ({load.running} running, {load.waiting} waiting): "
                    "what is measured now is not the engine's speed; drain it first (prfaas drain), or wait"
                )
            await asyncio.sleep(POLL_S)

    async def round_trip_s(self) -> float:
        """Seconds of a question that computes nothing."""
        began_s = self.clock.now_s()
        await self._text("/health")
        return self.clock.now_s() - began_s

    async def complete(self, body: Mapping[str, Any], doing: str) -> tuple[dict[str, Any], Mapping[str, str]]:
        """A whole answer, and its headers. Raises ConfigError, EngineUnavailable."""
        async with self._open(encoded(body), doing) as response:
            answer: dict[str, Any] = json.loads(await response.read())
            return answer, response.headers

    async def stream(self, payload: bytes, doing: str) -> AsyncIterator[tuple[float, bytes]]:
        """The events of a streamed answer and when each was here, the final ``[DONE]`` left out.

        Args:
            payload: a body with ``stream``, encoded before anybody looks at the clock.
            doing: what for, in errors.

        Raises:
            ConfigError: the engine refuses the request.
            EngineUnavailable: it cannot be reached, went away, or the stream broke off.
        """
        is_over = False
        async with self._open(payload, doing) as response:
            async for line in response.content:
                if not line.startswith(b"data: "):
                    continue
                if line.startswith(b"data: [DONE]"):
                    is_over = True
                elif line.startswith(b'data: {"error"'):
                    raise EngineUnavailable(f"{self.url} failed {doing}: {own_words(line[6:])}")
                else:
                    yield self.clock.now_s(), line[6:]
        if not is_over:
            raise EngineUnavailable(f"{self.url} broke off {doing}")

    @asynccontextmanager
    async def _open(self, payload: bytes, doing: str) -> AsyncIterator[aiohttp.ClientResponse]:
        try:
            async with self._http.post(self.url + COMPLETIONS, data=payload, headers=JSON) as response:
                if response.status != 200:
                    self._refused(response.status, await response.read(), doing)
                yield response
        except (aiohttp.ClientError, OSError) as error:  # a timeout is an OSError
            raise EngineUnavailable(f"{self.url} went away {doing}: {error or type(error).__name__}") from None

    def _refused(self, status: int, text: bytes, doing: str) -> None:
        kind = ConfigError if 400 <= status < 500 else EngineUnavailable
        raise kind(f"{self.url} answers {status} {doing}: {own_words(text)}")

    async def _metrics(self) -> dict[str, list[tuple[dict[str, str], float]]]:
        """Labels and values of each metric."""
        found: dict[str, list[tuple[dict[str, str], float]]] = {}
        for family in text_string_to_metric_families(await self._text("/metrics")):
            for sample in family.samples:
                found.setdefault(sample.name, []).append((sample.labels, sample.value))
        return found

    async def _text(self, path: str) -> str:
        try:
            async with asyncio.timeout(QUESTION_S), self._http.get(self.url + path) as response:
                text = await response.text()
        except (aiohttp.ClientError, OSError) as error:
            raise EngineUnavailable(f"{self.url}{path} cannot be asked: {error or type(error).__name__}") from None
        if response.status != 200:
            raise EngineUnavailable(f"{self.url}{path} answers {response.status}: {text[:ERROR_CHARS]}")
        return text


def own_words(text: bytes) -> str:
    """A server's own words, without what is around them."""
    try:
        told = json.loads(text)
        return str((told.get("error") or told)["message"])[:ERROR_CHARS]
    except (ValueError, KeyError, TypeError, AttributeError):
        return text.decode(errors="replace").strip()[:ERROR_CHARS]
