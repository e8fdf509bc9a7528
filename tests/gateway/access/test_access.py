"""The gateway with tenants, as clients of real sockets meet it."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import aiohttp
import openai
import pytest

from tests.gateway.fakes import Stand, eventually, stand
from tests.gateway.stub_engine import EVENTS, hold, refuse, stall_after_first
from tests.gateway.test_remote import USED

KEYS = {"acme": "key-of-acme-0123456789", "batch": "key-of-batch-0123456789", "home": "key-of-home-0123456789"}
ENV = {**{name.upper(): key for name, key in KEYS.items()}, "SECRET": "a-secret-of-many-characters"}
CHAT = "/v1/chat/completions"


def tenants(**limits: Any) -> dict[str, Any]:
    """Three tenants: one with these limits, one of the lower class, one whose prompts stay in the gateway's site."""
    return {
        "acme": {"keys": [{"env": "ACME"}], **limits},
        "batch": {"keys": [{"env": "BATCH"}], "priorities": ["batch"]},
        "home": {"keys": [{"env": "HOME"}], "sites": ["edge"]},
    }


def guarded(limits: dict[str, Any] | None = None, **access: Any) -> Any:
    """A stand with tenants."""
    sections: dict[str, Any] = {
        "tenants": tenants(**(limits or {})),
        "access": {"cache_secret": {"env": "SECRET"}, **access},
    }
    return stand(env=ENV, **sections)


@pytest.fixture
async def running() -> AsyncIterator[Stand]:
    async with guarded() as running:
        yield running


async def ask(running: Stand, tenant: str | None = "acme", words: int = 2, **fields: Any) -> aiohttp.ClientResponse:
    headers = {"authorization": f"Bearer {KEYS.get(tenant, tenant)}"} if tenant else {}
    headers |= fields.pop("headers", {})
    body = {"model": "tiny", "messages": [{"role": "user", "content": " ".join(["word"] * words)}], **fields}
    return await running.client.post(running.url + CHAT, json=body, headers=headers)


async def error_of(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    error: dict[str, Any] = (await answer.json())["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize(("key", "code"), [(None, "missing_api_key"), ("key-of-nobody-0123456789", "invalid_api_key")])
async def test_strangers_are_refused(
    running: Stand, key: str | None, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a known key nothing is read and nothing runs; the key appears in no answer, log line or metric."""
    caplog.set_level("DEBUG")
    async with await ask(running, key) as answer:
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        error = await error_of(answer)
    assert error["code"] == code
    assert running.edge.calls == []
    shown = error["message"] + caplog.text + running.services.metrics.exposition().decode()
    assert (key or "Bearer") not in shown.replace("'Authorization: Bearer KEY'", "")


async def test_models_need_a_key_too(running: Stand) -> None:
    """What is served is told to tenants alone; health is told to everybody."""
    for path, status in (("/v1/models", 401), ("/v1/models/tiny", 401), ("/health", 200), ("/ready", 200)):
        async with running.client.get(running.url + path) as answer:
            assert answer.status == status, path
    async with running.client.get(f"{running.url}/v1/models", headers={"x-api-key": KEYS["acme"]}) as answer:
        assert answer.status == 200


async def test_official_client_is_let_in(running: Stand) -> None:
    """And its exceptions are those that its users know."""
    async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key=KEYS["acme"], max_retries=0) as client:
        stream = await client.completions.create(model="tiny", prompt="a b", stream=True)
        assert [chunk.choices[0].text async for chunk in stream] == ["tok0", "tok1", "tok2"]
    async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="forged", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()


async def test_tenant_is_recorded_and_hidden_from_engines(running: Stand) -> None:
    """Operators see whose request it was; engines see a salt, and neither name nor key."""
    async with await ask(running, cache_salt="mine", words=10) as answer:
        assert answer.status == 200
    ended = await running.ended()
    assert (ended.tenant, ended.placement) == ("acme", "remote")
    bodies = [(await engine.call(0)).body for engine in (running.edge, running.cloud)]
    assert bodies[0]["cache_salt"] == bodies[1]["cache_salt"] != "mine"
    assert not any("acme" in str(body) for body in bodies)
    exposition = running.services.metrics.exposition().decode()
    assert 'prfaas_tenant_requests_total{priority="interactive",tenant="acme"} 1.0' in exposition


async def test_prompts_stay_in_their_tenants_sites(running: Stand) -> None:
    """A long prompt of a tenant that may not leave the gateway's site is prefilled here; another's goes."""
    running.reports.default = USED
    for tenant, placement in (("home", "local"), ("acme", "remote")):
        async with await ask(running, tenant, words=10) as answer:
            assert answer.headers["x-prfaas-placement"] == placement
    assert len(running.cloud.calls) == 1


def stop_clock(running: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on no time passes by the gateway's clock, so limits are not filled again."""
    now_s = running.services.clock.now_s()
    monkeypatch.setattr(running.services.clock, "now_s", lambda: now_s)


async def test_requests_per_minute() -> None:
    """The third of two a minute is a 429 with all that a client needs to know, and other tenants are not touched."""
    async with guarded({"requests_per_minute": 2}) as running:
        for left in ("1", "0"):
            async with await ask(running) as answer:
                assert answer.headers["x-ratelimit-remaining-requests"] == left
        async with await ask(running) as answer:
            assert answer.status == 429
            assert 1 <= int(answer.headers["retry-after"]) <= 30
            assert answer.headers["x-ratelimit-limit-requests"] == "2"
            error = await error_of(answer)
            assert (error["code"], error["type"]) == ("rate_limit_exceeded", "requests")
        async with await ask(running, "batch") as answer:
            assert answer.status == 200
            assert "x-ratelimit-limit-requests" not in answer.headers


async def test_tokens_are_settled_by_the_engines_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt is charged as it comes, and what the engine says at the end is what it cost."""
    async with guarded({"tokens_per_minute": 1000}) as running:
        stop_clock(running, monkeypatch)
        running.edge.script = refuse(200, {"choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 700}})
        async with await ask(running) as answer:
            assert answer.headers["x-ratelimit-remaining-tokens"] == "998"
            await answer.read()
        running.edge.script = refuse(200, {"choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 400}})
        async with await ask(running) as answer:
            assert answer.headers["x-ratelimit-remaining-tokens"] == "296"
            await answer.read()
        async with await ask(running) as answer:
            assert answer.status == 429
            assert (await error_of(answer))["type"] == "tokens"
        value = running.services.metrics.registry.get_sample_value
        assert value("prfaas_tenant_tokens_total", {"tenant": "acme"}) == 1104


async def test_refused_request_costs_no_tokens() -> None:
    """What the engine does not take is given back."""
    async with guarded({"tokens_per_minute": 100}) as running:
        running.edge.script = refuse(400)
        for _ in range(3):
            async with await ask(running, words=60) as answer:
                assert answer.status == 400


async def test_concurrent_requests_are_bounded() -> None:
    """One too many is a 429; a client that waits for its answer finds its place free."""
    async with guarded({"max_concurrent": 1}) as running:
        until = asyncio.Event()
        running.edge.script = hold(until)
        first = asyncio.create_task(ask(running))
        await running.edge.call(0)
        async with await ask(running) as answer:
            assert answer.status == 429
            assert (await error_of(answer))["code"] == "concurrency_limit_exceeded"
        until.set()
        async with await first as answer:
            assert answer.status == 200
        for _ in range(20):
            async with await ask(running, stream=True) as answer:
                assert answer.status == 200
                assert await answer.read() == b"".join(EVENTS)


async def test_higher_class_overtakes_the_lower() -> None:
    """With one place, a waiting interactive request goes before a batch request that came earlier."""
    async with guarded(max_running=1) as running:
        until = asyncio.Event()
        running.edge.script = hold(until)
        tasks = [asyncio.create_task(ask(running))]
        await running.edge.call(0)
        for tenant, priority in (("batch", "batch"), ("acme", "interactive")):
            tasks.append(asyncio.create_task(ask(running, tenant, words=3 if tenant == "batch" else 4)))
            await eventually(partial(_is_waiting, running, priority))
        until.set()
        for task in tasks:
            async with await task as answer:
                assert answer.status == 200
        lengths = [len(call.params["prompt_token_ids"]) for call in running.edge.calls]
        assert lengths == [2, 4, 3]


async def test_client_that_leaves_the_line_is_forgotten() -> None:
    """Nobody runs for it, and its place in its tenant's limits is free again."""
    async with guarded({"max_concurrent": 2}, max_running=1) as running:
        until = asyncio.Event()
        running.edge.script = hold(until)
        first = asyncio.create_task(ask(running))
        await running.edge.call(0)
        leaving = asyncio.create_task(ask(running))
        await eventually(lambda: _waiting(running, "interactive") == 1)
        leaving.cancel()
        await eventually(lambda: _waiting(running, "interactive") == 0)
        until.set()
        async with await first as answer:
            assert answer.status == 200
        assert len(running.edge.calls) == 1


async def test_full_class_is_told() -> None:
    """When a class has no place left, its next request is a 429 with a time; the class is named."""
    classes = [{"name": "interactive", "max_waiting": 0}, {"name": "batch"}]
    async with guarded(max_running=1, priorities=classes) as running:
        running.edge.script = stall_after_first
        async with await ask(running, stream=True) as first:
            await first.content.readany()
            async with await ask(running) as answer:
                assert answer.status == 429
                assert answer.headers["retry-after"] == "1"
                error = await error_of(answer)
                assert (error["code"], "'interactive'" in error["message"]) == ("queue_full", True)
            first.close()


async def test_class_is_chosen_among_the_tenants_own(running: Stand) -> None:
    """A header asks for a lower class; one that the key may not use is a 403."""
    async with await ask(running, headers={"x-prfaas-priority": "batch"}) as answer:
        assert answer.status == 200
    async with await ask(running, "batch", headers={"x-prfaas-priority": "interactive"}) as answer:
        assert answer.status == 403
        assert (await error_of(answer))["code"] == "priority_not_allowed"


@pytest.mark.parametrize(
    ("given", "kept"),
    [("trace-1:a.b_c", True), ("x" * 129, False), ("a b", False), ("a%0d%0aset-cookie: x", False), ("-x", False)],
)
async def test_request_id_of_the_client(running: Stand, given: str, kept: bool) -> None:
    """A short and plain one is taken over, in answers of all kinds; any other is replaced."""
    for key, status in (("acme", 200), ("forged", 401)):
        async with await ask(running, key, headers={"x-request-id": given}) as answer:
            assert answer.status == status
            assert (answer.headers["x-request-id"] == given) == kept
            assert "set-cookie" not in answer.headers


async def test_operators_routes_are_not_for_tenants(running: Stand) -> None:
    """Metrics and decisions tell of all tenants, so they are for this machine alone, also behind a proxy on it."""
    for path in ("/metrics", "/prfaas/decisions"):
        for forwarded, status in ((None, 200), ("203.0.113.9", 403), ("127.0.0.1, 203.0.113.9", 403)):
            headers = {"x-forwarded-for": forwarded} if forwarded else {}
            async with running.client.get(running.url + path, headers=headers) as answer:
                assert answer.status == status


async def test_pages_of_allowed_origins_may_call() -> None:
    """A browser's preflight needs no key and names what is allowed; other origins are told nothing."""
    async with guarded(cors_origins=["https://app.example"]) as running:
        asks = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,x-made-up"}
        for origin, allowed in (("https://app.example", True), ("https://evil.example", False)):
            async with running.client.options(running.url + CHAT, headers={"origin": origin, **asks}) as answer:
                assert (answer.status == 200, "access-control-allow-origin" in answer.headers) == (allowed, allowed)
            async with await ask(running, headers={"origin": origin}, stream=True) as answer:
                assert (answer.headers.get("access-control-allow-origin") == origin) == allowed
                assert await answer.read() == b"".join(EVENTS)


async def test_no_origin_may_call_by_default(running: Stand) -> None:
    """CORS is off unless it is configured."""
    async with await ask(running, headers={"origin": "https://app.example"}) as answer:
        assert "access-control-allow-origin" not in answer.headers


def _is_waiting(running: Stand, priority: str) -> bool:
    return _waiting(running, priority) == 1


def _waiting(running: Stand, priority: str) -> float | None:
    return running.services.metrics.registry.get_sample_value("prfaas_waiting_requests", {"priority": priority})


async def test_each_worker_has_its_part_of_the_limits() -> None:
    """A quarter for each of four, rounded up, so that none is left with nothing."""
    access = {"cache_secret": {"env": "SECRET"}}
    limits = tenants(requests_per_minute=10, tokens_per_minute=1000, max_concurrent=1)
    workers = {"site": "edge", "workers": 4}
    async with (
        stand(env=ENV, access=access, tenants=limits, gateway=workers) as running,
        await ask(running) as answer,
    ):
        assert answer.headers["x-ratelimit-limit-requests"] == "3"
        assert answer.headers["x-ratelimit-limit-tokens"] == "250"


async def test_deadline_holds_in_line() -> None:
    """A request whose time ends while it waits for its turn is a 504, and leaves the line."""
    access = {"cache_secret": {"env": "SECRET"}, "max_running": 1}
    async with stand(env=ENV, request_timeout_s=2, tenants=tenants(), access=access) as running:
        running.edge.script = hold(asyncio.Event())
        first = asyncio.create_task(ask(running))
        await running.edge.call(0)
        async with await ask(running) as answer:
            assert answer.status == 504
            assert (await error_of(answer))["code"] == "timeout"
        assert _waiting(running, "interactive") == 0
        async with await first as answer:
            assert answer.status == 504
