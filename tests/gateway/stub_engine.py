"""A stand-in for a vLLM server: real HTTP on loopback, a script instead of a model."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class Call:
    """One request as the engine saw it."""

    path: str
    body: dict[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    is_aborted: asyncio.Event = field(default_factory=asyncio.Event)
    has_begun: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def params(self) -> dict[str, Any]:
        params: dict[str, Any] = self.body.get("kv_transfer_params") or {}
        return params


Script = Callable[[Call, web.Request], Awaitable[web.StreamResponse]]

EVENTS = [f'data: {{"choices": [{{"text": "tok{index}"}}]}}\n\n'.encode() for index in range(3)] + [b"data: [DONE]\n\n"]
FAILURE = b'data: {"error": {"message": "the core died", "type": "InternalServerError", "code": 500}}\n\n'
"""As vLLM writes it into a stream that has begun."""


class StubEngine:
    """Answers by ``script``; by default like an engine that is quick and well."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.arrived = asyncio.Condition()
        self.script: Script = answer_at_once
        self.health_status = 200
        self.tokens_shift = 0
        self.tokenize_status = 200
        self.adapters: dict[str, str] = {}
        self.models_status = 200
        self.url = ""
        self.stop: Callable[[], Awaitable[None]]

    async def call(self, index: int) -> Call:
        """The ``index``-th request, as soon as it is there."""
        async with self.arrived:
            await self.arrived.wait_for(lambda: len(self.calls) > index)
        return self.calls[index]

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        call = Call(request.path, json.loads(await request.read()), request.headers)
        async with self.arrived:
            self.calls.append(call)
            self.arrived.notify_all()
        try:
            return await self.script(call, request)
        except asyncio.CancelledError:
            call.is_aborted.set()
            raise

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(status=self.health_status)

    async def _models(self, _: web.Request) -> web.Response:
        cards = [{"id": "tiny", "root": "/nowhere", "parent": None, "max_model_len": 100}]
        cards += [{"id": name, "root": path, "parent": "tiny"} for name, path in self.adapters.items()]
        answer = {"object": "list", "data": cards} if self.models_status == 200 else {"error": {"message": "no"}}
        return web.json_response(answer, status=self.models_status)

    async def _tokenize(self, request: web.Request) -> web.Response:
        body = await request.json()
        if "messages" not in body and "prompt" not in body:
            return web.json_response({"error": {"message": "no prompt"}}, status=400)
        text = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
        tokens = [len(word) + self.tokens_shift for word in str(text).split()]
        return web.json_response({"tokens": tokens}, status=self.tokenize_status)

    @contextlib.asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator["StubEngine"]:
        app = web.Application(client_max_size=2**30)
        app.router.add_get("/health", self._health)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/tokenize", self._tokenize)
        app.router.add_post("/{rest:.*}", self._generate)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        self.stop = runner.cleanup
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()


async def answer_at_once(call: Call, request: web.Request) -> web.StreamResponse:
    """A short stream or a short body, whichever was asked for."""
    if not call.body.get("stream"):
        return web.json_response({"choices": [{"text": "tok0tok1tok2"}]})
    response = await begin_stream(call, request)
    for event in EVENTS:
        await response.write(event)
    return response


async def begin_stream(call: Call, request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    call.has_begun.set()
    return response


def hold(until: asyncio.Event, then: Script = answer_at_once) -> Script:
    """Do nothing until the event, then go on."""

    async def script(call: Call, request: web.Request) -> web.StreamResponse:
        await until.wait()
        return await then(call, request)

    return script


def once(is_so: Callable[[], Awaitable[object]], then: Script) -> Script:
    """Wait until something is so, then go on."""

    async def script(call: Call, request: web.Request) -> web.StreamResponse:
        await is_so()
        return await then(call, request)

    return script


async def hold_remote_answer_local(call: Call, request: web.Request) -> web.StreamResponse:
    """As a decode engine whose cache never comes: answers what it is to prefill itself, and nothing else. Whichever
    request comes first, so that one which is given up before it arrives changes nothing."""
    if "prfaas" in call.params:
        await asyncio.Event().wait()
    return await answer_at_once(call, request)


def refuse(status: int, body: object = None) -> Script:
    """Answer with an error in vLLM's shape."""

    async def script(call: Call, request: web.Request) -> web.StreamResponse:
        error = {"message": "no", "type": "BadRequestError", "param": None, "code": status}
        return web.json_response(body or {"error": error}, status=status)

    return script


async def fail_in_the_stream(call: Call, request: web.Request) -> web.StreamResponse:
    """Tell of a failure in place of any output."""
    response = await begin_stream(call, request)
    await response.write(FAILURE)
    return response


async def break_off(call: Call, request: web.Request) -> web.StreamResponse:
    """Send two events and half a third, then die."""
    response = await begin_stream(call, request)
    await response.write(EVENTS[0] + EVENTS[1] + EVENTS[2][:9])
    await asyncio.sleep(0)
    assert request.transport is not None
    request.transport.abort()
    return response


async def stall_after_first(call: Call, request: web.Request) -> web.StreamResponse:
    """Send one event and then nothing more."""
    response = await begin_stream(call, request)
    await response.write(EVENTS[0])
    await asyncio.Event().wait()
    return response


def one_after_another(*scripts: Script) -> Script:
    """The first script for the first request, and so on; the last for all further ones."""
    left = list(scripts)

    async def script(call: Call, request: web.Request) -> web.StreamResponse:
        return await (left.pop(0) if len(left) > 1 else left[0])(call, request)

    return script


async def die(call: Call, request: web.Request) -> web.StreamResponse:
    """Break the connection without an answer."""
    assert request.transport is not None
    request.transport.abort()
    call.is_aborted.set()
    return await asyncio.Future()


def pause_after_first(until: asyncio.Event, others: Sequence[bytes] = EVENTS[1:]) -> Script:
    """Send one event, and the others after the event has happened."""

    async def script(call: Call, request: web.Request) -> web.StreamResponse:
        response = await begin_stream(call, request)
        await response.write(EVENTS[0])
        await until.wait()
        for event in others:
            await response.write(event)
        return response

    return script
