"""``GET /prfaas/status``, ``/prfaas/decisions`` and ``/prfaas/requests/{id}`` of a running gateway."""

import asyncio
from dataclasses import replace
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # has no types
import pytest

from prfaas.gateway.status.document import Status
from prfaas.types import LinkStatistics, TransferReport
from tests.gateway.access.test_access import KEYS, guarded
from tests.gateway.fakes import CLOUD_KV, Stand, eventually, stand
from tests.gateway.stub_engine import hold, stall_after_first

USED = TransferReport(
    "any", ok=True, tokens=9, cache_bytes=1000, prefilled_s=0.02, first_s=0.01, last_s=0.03, used_s=0.04
)


async def get(running: Stand, path: str, **headers: str) -> Any:
    async with running.client.get(f"{running.url}{path}", headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def test_everything_of_an_idle_gateway(running: Stand) -> None:
    """Sites, engines, links, line, controller: all of the configuration is there, and the model's schema holds."""
    told = await get(running, "/prfaas/status")
    assert Status.model_validate_json(Status.model_validate(told).model_dump_json()).gateway.site == "edge"
    assert [(each["name"], each["is_local"], each["healthy_engines"]) for each in told["sites"]] == [
        ("edge", True, 1),
        ("cloud", False, 1),
    ]
    assert [(each["name"], each["state"], each["roles"], each["inflight"]) for each in told["engines"]] == [
        ("edge-0", "healthy", ["prefill", "decode"], 0),
        ("cloud-0", "healthy", ["prefill"], 0),
    ]
    [link] = told["links"]
    assert (link["source"], link["target"], link["broken"]) == ("cloud", "edge", False)
    assert link["bandwidth_bytes_s"] == 1.25e9
    assert [each["priority"] for each in told["admission"]["classes"]] == ["interactive", "batch"]
    assert (told["controller"]["mode"], told["controller"]["threshold_tokens"]) == ("shadow", 5)
    assert told["recent"] == {
        "requests": 0,
        "capacity": 256,
        "since_unix_s": None,
        "outcomes": {},
        "prompt_tokens": 0,
        "reused_tokens": 0,
        "remote_tokens": 0,
        "cache_bytes": 0,
        "early_bytes": 0,
        "first_output_p50_s": None,
        "first_output_p95_s": None,
    }


async def test_it_keeps_to_its_schema(running: Stand) -> None:
    """What ``/openapi.json`` says of the document is what comes."""
    described = await get(running, "/openapi.json")
    schema = described["paths"]["/prfaas/status"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema.validate(await get(running, "/prfaas/status"), {**schema, "components": described["components"]})


async def test_work_and_trouble_show(running: Stand) -> None:
    """A request in flight, a drained engine, a sick one, a busy link and an open breaker."""
    running.edge.script = stall_after_first
    running.reports.default = USED
    running.reports.links_of[CLOUD_KV] = (
        LinkStatistics("edge-0", True, utilisation=0.9, bandwidth_bytes_s=1.25e9, rtt_s=0.03, queued_bytes=7),
    )
    async with await running.chat(10, stream=True) as answer:
        await answer.content.readany()
        async with running.client.post(f"{running.url}/prfaas/engines/edge-0/drain") as drained:
            assert (await drained.json())["inflight"] == 1
        for _ in range(3):
            running.services.fleet.link_breakers.blame(("cloud", "edge"))
        running.cloud.health_status = 503
        await eventually(lambda: not running.services.fleet.status("cloud-0").is_healthy)
        await eventually(lambda: running.services.view.links.states()[0].is_scarce)
        told = await get(running, "/prfaas/status")
    edge, cloud = told["engines"]
    assert (edge["state"], edge["draining"], edge["inflight"]) == ("draining", True, 1)
    assert (cloud["state"], cloud["healthy"], cloud["problem"]) == ("unhealthy", False, "/health answers 503")
    assert (cloud["recent_requests"], cloud["recent_prompt_tokens"]) == (1, 10)
    [link] = told["links"]
    assert (link["scarce"], link["breaker"], link["queued_bytes"]) == (True, "open", 7)
    assert link["load_bytes_s"] == pytest.approx(0.9 * 1.25e9)
    assert [each["healthy_engines"] for each in told["sites"]] == [0, 0]
    assert (told["admission"]["running"], told["recent"]["outcomes"]) == (1, {"running": 1})


async def test_a_link_has_the_requests_whose_cache_is_to_come(running: Stand) -> None:
    """Until the report, however many decisions came since; one that decodes on has the link no more."""
    running.services.decisions.capacity = 1
    running.edge.script = stall_after_first
    streams = [await running.chat(10, stream=True) for _ in range(2)]
    assert [each["requests"] for each in (await get(running, "/prfaas/status"))["links"]] == [2]
    for _, transfer_id, _ in running.reports.waits:
        running.reports.give(replace(USED, transfer_id=transfer_id))
    await eventually(lambda: running.services.view.requests_on(("cloud", "edge")) == 0)
    told = await get(running, "/prfaas/status")
    assert ([each["requests"] for each in told["links"]], told["engines"][0]["inflight"]) == ([0], 2)
    for stream in streams:
        stream.close()


async def test_a_cache_that_nobody_wants_leaves_the_link(running: Stand) -> None:
    """A client that goes before its cache has come takes its request off the link."""
    running.edge.script = stall_after_first
    async with await running.chat(10, stream=True):
        assert running.services.view.requests_on(("cloud", "edge")) == 1
    await eventually(lambda: running.services.view.requests_on(("cloud", "edge")) == 0)


async def test_the_line_shows() -> None:
    """Those who wait for their turn, by class."""
    goes_on = asyncio.Event()
    access = {"max_running": 1, "priorities": [{"name": "only", "max_waiting": 3}]}
    async with stand(access=access) as running:
        running.edge.script = hold(goes_on)
        asking = [asyncio.create_task(running.chat(2)) for _ in range(3)]
        await eventually(lambda: running.services.access.gate.waiting("only") == 2)
        told = await get(running, "/prfaas/status")
        goes_on.set()
        for each in await asyncio.gather(*asking):
            each.close()
    line = {"running": 1, "max_running": 1, "classes": [{"priority": "only", "waiting": 2, "max_waiting": 3}]}
    assert told["admission"] == line


async def test_a_request_can_be_looked_up(running: Stand) -> None:
    """By the id that its client gave it: decision and timeline, the cache's way included."""
    running.reports.default = USED
    headers = {"x-request-id": "night-1"}
    body = {"model": "tiny", "messages": [{"role": "user", "content": "a " * 10}], "stream": True}
    async with running.client.post(f"{running.url}/v1/chat/completions", json=body, headers=headers) as answer:
        await answer.read()
    await running.ended()
    told = await get(running, "/prfaas/requests/night-1")
    assert told["decision"]["outcome"] == "remote"
    assert told["decision"]["arrived_unix_s"] > 1e9
    stages = {each["stage"]: each for each in told["timeline"]}
    assert set(stages) >= {"read", "tokenise", "placement", "prefill", "transfer", "inject", "first token", "answer"}
    assert (stages["prefill"]["engine"], stages["prefill"]["site"]) == ("cloud-0", "cloud")
    assert (stages["transfer"]["source"], stages["transfer"]["engine"]) == ("cloud-0", "edge-0")


async def test_an_unknown_request(running: Stand) -> None:
    """Says where else to look."""
    async with running.client.get(f"{running.url}/prfaas/requests/none") as answer:
        assert answer.status == 404
        assert "The log has all" in (await answer.json())["error"]["message"]


async def test_decisions_since_a_cursor(running: Stand) -> None:
    """Only what is new or has changed comes again; a cursor of another gateway, or none at all, gives everything."""
    await running.chat(2)
    await running.ended()
    first = await get(running, "/prfaas/decisions")
    assert [each["request_id"] for each in first["decisions"]] == ["req-1"]
    nothing = await get(running, f"/prfaas/decisions?after={first['cursor']}")
    assert (nothing["decisions"], nothing["cursor"]) == ([], first["cursor"])
    running.edge.script = stall_after_first
    async with await running.chat(3, stream=True) as answer:
        await answer.content.readany()
        begun = await get(running, f"/prfaas/decisions?after={first['cursor']}")
    await running.ended()
    ended = await get(running, f"/prfaas/decisions?after={begun['cursor']}")
    assert [(each["request_id"], each["outcome"]) for each in begun["decisions"] + ended["decisions"]] == [
        ("req-2", "running"),
        ("req-2", "cancelled"),
    ]
    for other in ("", "feedbeef-1", "no cursor", f"{first['cursor'].split('-')[0]}-²", "-" * 64):
        assert len((await get(running, f"/prfaas/decisions?after={other}"))["decisions"]) == 2


async def test_who_may_see_it() -> None:
    """With tenants: operators alone. A tenant's key shows nothing, and nobody behind a proxy is let in."""
    async with guarded() as running:
        for path in ("/prfaas/status", "/prfaas/requests/none"):
            async with running.client.get(running.url + path, headers={"x-forwarded-for": "10.0.0.1"}) as answer:
                assert answer.status == 403
        await get(running, "/prfaas/status", authorization=f"Bearer {KEYS['acme']}")  # from this machine: an operator
