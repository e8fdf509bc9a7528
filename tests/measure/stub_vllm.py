"""A stand-in for vLLM whose times are known: real HTTP on loopback, and a clock that moves by what its work takes."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from prfaas.clock import ManualClock

DRAIN_S = 0.001
"""More than clients need that share the loop."""
ASKING_S = 1.0
"""What a question costs of the stub's time, so that who waits for it ends."""
CACHE = 'block_size="16",cache_dtype="auto",num_gpu_blocks="500"'


@dataclass
class StubVllm:
    """One engine.

    Attributes:
        prefill_s: seconds of a prompt by its length.
        step_s: seconds of a step by its batch.
        max_running: requests at a time; others wait.
        others: requests of somebody else that run all the time.
        others_finished: of those that end whenever one of ours does.
        hit_tokens: of each prompt that the cache has.
        ends_after: tokens after which an answer ends in spite of ignore_eos.
        dies_after: requests after which connections break.
        refuses: fields of a request that are answered with 400.
        at_once: tokens in an event, as from a server that is late.
        drain_s: real time between two steps, in which clients read.
    """

    clock: ManualClock = field(default_factory=ManualClock)
    prefill_s: Callable[[int], float] = lambda tokens: 0.1 + tokens / 10_000
    step_s: Callable[[int], float] = lambda batch: 0.01 + batch / 1000
    max_running: int = 256
    max_tokens: int = 100_000
    others: int = 0
    others_finished: int = 0
    hit_tokens: int = 0
    ends_after: int | None = None
    dies_after: int | None = None
    refuses: tuple[str, ...] = ()
    at_once: int = 1
    drain_s: float = DRAIN_S
    preemptions: int = 0
    root: str = "/nowhere"
    bodies: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""
    _running: list[asyncio.Queue[int]] = field(default_factory=list)
    _waiting: int = 0
    _finished: int = 0
    _hits: int = 0

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator["StubVllm"]:
        app = web.Application(client_max_size=2**28)
        app.router.add_get("/version", self._version)
        app.router.add_get("/health", self._health)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_post("/v1/completions", self._complete)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        steps = asyncio.ensure_future(self._step())
        try:
            yield self
        finally:
            steps.cancel()
            await runner.cleanup()

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": "0.32.0"})

    async def _health(self, _: web.Request) -> web.Response:
        self.clock.advance(0.002)
        return web.Response()

    async def _models(self, _: web.Request) -> web.Response:
        card = {"id": "tiny", "root": self.root, "parent": None, "max_model_len": self.max_tokens}
        return web.json_response({"data": [card, {"id": "adapter", "parent": "tiny"}]})

    async def _metrics(self, _: web.Request) -> web.Response:
        self.clock.advance(ASKING_S)
        values = {
            "vllm:num_requests_running": len(self._running) + self.others,
            "vllm:num_requests_waiting": self._waiting,
            "vllm:request_success_total": self._finished,
            "vllm:prefix_cache_hits_total": self._hits,
            "vllm:num_preemptions_total": self.preemptions,
        }
        lines = [f'{name}{{engine="0",model_name="tiny"}} {value}' for name, value in values.items()]
        return web.Response(text="\n".join([*lines, f"vllm:cache_config_info{{{CACHE}}} 1.0", ""]))

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        self.bodies.append(body)
        if self.dies_after is not None and len(self.bodies) > self.dies_after:
            assert request.transport is not None
            request.transport.close()
            raise web.HTTPServiceUnavailable
        refused = next((name for name in self.refuses if name in body), None)
        length, count = len(body["prompt"]), body["max_tokens"]
        if refused or length + count > self.max_tokens:
            message = f"unknown field {refused}" if refused else f"longer than {self.max_tokens} tokens"
            return web.json_response({"error": {"message": message, "code": 400}}, status=400)
        self._hits += self.hit_tokens
        return await self._answer(request, body)

    async def _answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        length, count = len(body["prompt"]), body["max_tokens"]
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        self._waiting += 1
        try:
            while len(self._running) >= self.max_running:  # noqa: ASYNC110 - as a scheduler does, step by step
                await asyncio.sleep(DRAIN_S)
        finally:
            self._waiting -= 1
        self.clock.advance(self.prefill_s(length))
        tokens: asyncio.Queue[int] = asyncio.Queue()
        self._running.append(tokens)
        try:
            await self._write(response, 1, "length" if count == 1 else None)
            sent = 1
            while sent < count:
                ready = [await tokens.get() for _ in range(min(self.at_once, count - sent))]
                sent += len(ready)
                is_early = self.ends_after is not None and sent >= self.ends_after
                reason = "stop" if is_early else "length" if sent >= count else None
                await self._write(response, len(ready), reason)
                if is_early:
                    break
        finally:
            self._running.remove(tokens)
            self._finished += 1 + self.others_finished
        if "stream_options" in body:
            await self._event(response, {"choices": [], "usage": {"prompt_tokens": length}})
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _write(self, response: web.StreamResponse, count: int, reason: str | None) -> None:
        await self._event(response, {"choices": [{"text": "x", "token_ids": [7] * count, "finish_reason": reason}]})

    async def _event(self, response: web.StreamResponse, event: object) -> None:
        await response.write(f"data: {json.dumps(event)}\n\n".encode())

    async def _step(self) -> None:
        while True:
            await asyncio.sleep(self.drain_s)
            if self._running:
                self.clock.advance(self.step_s(len(self._running)))
            for tokens in self._running:
                tokens.put_nowait(7)


class NoSteps:
    """Progress that nobody looks at."""

    def __init__(self) -> None:
        self.work: dict[str, float] = {}

    def part(self, name: str, work: float) -> None:
        self.work[name] = work

    def now(self, name: str, what: str) -> None:
        pass

    def done(self, name: str, work: float, result: str = "") -> None:
        self.work[name] -= work
