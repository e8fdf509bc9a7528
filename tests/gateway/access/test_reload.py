"""Tenants of a running gateway follow their configuration and their keys."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from prfaas.config import Config
from prfaas.gateway.live import ConfigSource
from tests.gateway.access.test_access import ENV, ask, error_of, stop_clock, tenants
from tests.gateway.fakes import FakeReports, Stand, eventually, stand
from tests.gateway.stub_engine import EVENTS, answer_at_once, hold, one_after_another, pause_after_first
from tests.gateway.test_remote import USED

Reload = Callable[..., Any]


@asynccontextmanager
async def guarded(
    env: dict[str, str] | None = None,
    max_running: int = 512,
    adapters: dict[str, str] | None = None,
    **limits: Any,
) -> AsyncIterator[tuple[Stand, Reload]]:
    """A gateway with tenants, and a way to have it read another section of them, and others; the status comes back."""
    configs: list[Config] = []
    env = dict(ENV) if env is None else env
    source = ConfigSource(lambda: configs[-1], lambda _: FakeReports(), env)
    access = {"cache_secret": {"env": "SECRET"}, "max_running": max_running}
    stood = stand(env=env, source=source, adapters=adapters, tenants=tenants(**limits), access=access)
    async with stood as running:

        async def reload(section: dict[str, Any], **others: Any) -> tuple[int, Any]:
            tree = running.services.config.model_dump(by_alias=True, exclude_unset=True)
            configs.append(Config.model_validate({**tree, "tenants": section, **others}))
            async with running.client.post(f"{running.url}/prfaas/reload") as answer:
                return answer.status, await answer.json()

        yield running, reload


async def status_of(running: Stand, tenant: str, **fields: Any) -> int:
    async with await ask(running, tenant, **fields) as answer:
        return answer.status


async def test_tenants_come_and_go() -> None:
    """A key of one that is new opens from then on, one of one that is gone no more; its stream goes on to its end."""
    going_on = asyncio.Event()
    async with guarded() as (running, reload):
        running.edge.script = pause_after_first(going_on)
        async with await ask(running, "acme", stream=True) as answer:
            assert await answer.content.readany() == EVENTS[0]
            section = tenants()
            section["new"] = {"keys": section.pop("acme")["keys"], "max_concurrent": 1}
            del section["home"]
            assert await reload(section) == (200, {"changes": "changed tenants"})
            assert [await status_of(running, "home")] == [401]
            going_on.set()
            assert await answer.read() == b"".join(EVENTS[1:])
        assert (await running.ended()).tenant == "acme"
        assert await status_of(running, "acme") == 200
        assert (await running.ended()).tenant == "new"
        async with running.client.get(f"{running.url}/v1/models", headers={"x-api-key": ENV["HOME"]}) as answer:
            assert answer.status == 401


async def test_keys_are_read_again_from_the_same_files(tmp_path: Path) -> None:
    """A key is changed without a word in the configuration; one that cannot be used leaves all as it was."""
    file = tmp_path / "key"
    file.write_text("the-first-key-of-acme")
    async with guarded() as (running, reload):
        section = {**tenants(), "acme": {"keys": [{"file": str(file)}]}}
        assert await reload(section) == (200, {"changes": "changed tenants"})
        assert await reload(section) == (200, {"changes": "nothing changed"})
        file.write_text("the-second-key-of-acme")
        assert await status_of(running, "the-first-key-of-acme") == 200
        assert await reload(section) == (200, {"changes": "changed tenants"})
        assert await status_of(running, "the-first-key-of-acme") == 401
        assert await status_of(running, "the-second-key-of-acme") == 200
        file.write_text("short")
        status, told = await reload({**section, "acme": {**section["acme"], "max_concurrent": 1}})
        assert (status, told["error"]["code"]) == (409, "config_refused")
        assert "short" not in told["error"]["message"].replace("is too short", "")
        assert await status_of(running, "the-second-key-of-acme") == 200


async def test_limits_change_and_what_is_used_counts_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs and what was taken of the minute is not forgotten, and no smaller limit ends what runs."""
    going_on = asyncio.Event()
    async with guarded(requests_per_minute=10) as (running, reload):
        stop_clock(running, monkeypatch)
        running.edge.script = pause_after_first(going_on)
        asking = [asyncio.create_task(ask(running, stream=True)) for _ in range(2)]
        await eventually(lambda: len(running.edge.calls) == 2)
        await reload(tenants(requests_per_minute=3, max_concurrent=2))
        async with await ask(running) as answer:
            assert (answer.status, (await error_of(answer))["code"]) == (429, "concurrency_limit_exceeded")
        going_on.set()
        for each in asking:
            async with await each as answer:
                assert await answer.read() == b"".join(EVENTS)
        await running.ended()
        async with await ask(running) as answer:
            assert answer.headers["x-ratelimit-limit-requests"] == "3"
            assert answer.headers["x-ratelimit-remaining-requests"] == "0"
        async with await ask(running) as answer:
            assert (await error_of(answer))["code"] == "rate_limit_exceeded"
        await reload(tenants())
        assert await status_of(running, "acme") == 200


async def test_sites_change_for_new_requests() -> None:
    """A tenant that is to stay in the gateway's site sends nothing away from then on."""
    async with guarded() as (running, reload):
        running.reports.default = USED
        assert await status_of(running, "acme", words=10) == 200
        assert (await running.ended()).placement == "remote"
        await reload(tenants(sites=["edge"]))
        assert await status_of(running, "acme", words=10) == 200
        assert (await running.ended()).placement == "local"
        assert len(running.cloud.calls) == 1


@asynccontextmanager
async def waiting(running: Stand, words: int = 10, **fields: Any) -> AsyncIterator[asyncio.Task[Any]]:
    """A request that waits at the gate behind another one until the block ends."""
    leaving, asked = asyncio.Event(), len(running.edge.calls)
    running.edge.script = one_after_another(hold(leaving), answer_at_once)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(ask(running, "batch"))
        await running.edge.call(asked)
        asking = group.create_task(ask(running, words=words, **fields))
        value = running.services.metrics.registry.get_sample_value
        await eventually(lambda: value("prfaas_waiting_requests", {"priority": "interactive"}))
        yield asking
        leaving.set()
    assert first.result().status == 200


async def test_request_that_waits_follows_what_is_forbidden() -> None:
    """One that waits at the gate while its tenant is bound to the gateway's site stays there."""
    async with guarded(max_running=1) as (running, reload):
        running.reports.default = USED
        async with waiting(running) as asking:
            assert (await reload(tenants(sites=["edge"])))[0] == 200
        assert (await asking).status == 200
        assert (await running.ended()).placement == "local"
        assert running.cloud.calls == []


async def test_request_that_waits_follows_the_policy_and_the_links() -> None:
    """It is placed by the threshold, and over the links, of when its turn has come."""
    async with guarded(max_running=1) as (running, reload):
        async with waiting(running, words=4) as asking:
            assert (await reload(tenants(), policy={"threshold_tokens": 3}))[0] == 200
        assert (await running.ended()).placement == "remote"
        async with waiting(running, words=4) as asking:
            assert (await reload(tenants(), policy={"threshold_tokens": 3}, links=[]))[0] == 200
        assert (await asking).status == 200
        assert (await running.ended()).placement == "local"


async def test_request_that_waits_ends_with_its_tenant_or_its_model() -> None:
    """A tenant that is gone by its turn is unknown, an adapter that is gone does not exist: no engine is asked."""
    async with guarded(max_running=1, adapters={"tuned": "/tuned"}) as (running, reload):
        async with waiting(running, model="tuned") as asking:
            model = running.services.config.model.model_dump(exclude_unset=True)
            assert (await reload(tenants(), model={**model, "adapters": {}}))[0] == 200
        async with await asking as answer:
            assert (answer.status, (await error_of(answer))["code"]) == (404, "model_not_found")
        async with waiting(running) as asking:
            section = tenants()
            del section["acme"]
            assert (await reload(section, model={**model, "adapters": {}}))[0] == 200
        async with await asking as answer:
            assert (answer.status, (await error_of(answer))["code"]) == (401, "invalid_api_key")
        assert len(running.edge.calls) == 2
        assert await status_of(running, "batch") == 200


async def test_everybodys_gateway_stays_one() -> None:
    """Tenants appear with a restart alone, and nobody is locked out meanwhile."""
    configs: list[Config] = []
    async with stand(source=ConfigSource(lambda: configs[-1], lambda _: FakeReports(), ENV)) as running:
        tree = running.services.config.model_dump(by_alias=True, exclude_unset=True)
        access = {"cache_secret": {"env": "SECRET"}}
        configs.append(Config.model_validate({**tree, "tenants": tenants(), "access": access}))
        async with running.client.post(f"{running.url}/prfaas/reload") as answer:
            assert answer.status == 409
            assert "tenants: changed, which needs a restart" in (await answer.json())["error"]["message"]
        async with await running.chat(2) as answer:
            assert answer.status == 200
