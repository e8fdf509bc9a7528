import asyncio

import openai
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Scope

from prfaas.gateway.admission import Admission, Inflight
from prfaas.gateway.api_request import PATHS
from prfaas.gateway.direct import DirectRoutes
from prfaas.gateway.prompt.parity import NOT_COMPARED
from prfaas.observe.metrics import Metrics
from prfaas.types import LinkStatistics
from tests.gateway.fakes import Stand, eventually
from tests.gateway.stub_engine import stall_after_first
from tests.gateway.test_remote import USED


async def test_ready_tells_which_engines_are_not(running: Stand) -> None:
    """Readiness asks for a local decode engine only; the body names every engine."""
    running.cloud.health_status = 503
    await eventually(lambda: not running.services.fleet.status("cloud-0").is_healthy)
    async with running.client.get(f"{running.url}/ready") as answer:
        assert answer.status == 200
        assert await answer.json() == {
            "ready": True,
            "engines": {"edge-0": "ok", "cloud-0": "/health answers 503"},
        }
    running.edge.health_status = 503
    await eventually(lambda: not running.services.fleet.status("edge-0").is_healthy)
    async with running.client.get(f"{running.url}/ready") as answer:
        assert answer.status == 503


async def test_health_needs_no_engine(running: Stand) -> None:
    """The gateway is alive whatever the engines are."""
    async with running.client.get(f"{running.url}/health") as answer:
        assert answer.status == 200


async def test_models(running: Stand) -> None:
    """The configured model is listed and can be looked up."""
    async with running.client.get(f"{running.url}/v1/models") as answer:
        assert [card["id"] for card in (await answer.json())["data"]] == ["tiny"]
    async with running.client.get(f"{running.url}/v1/models/tiny") as answer:
        assert (await answer.json())["max_model_len"] == 100


async def test_openapi_shows_every_route(running: Stand) -> None:
    """The API's description has the generation routes as well, although requests go past the framework's routing."""
    async with running.client.get(f"{running.url}/openapi.json") as answer:
        paths = (await answer.json())["paths"]
    assert {path: set(operations) for path, operations in paths.items() if path in PATHS.values()} == {
        path: {"post"} for path in PATHS.values()
    }
    assert {"/v1/models", "/health", "/metrics"} <= paths.keys()


async def test_direct_routes_leave_the_rest_to_the_framework() -> None:
    """Only POST requests to a path with a handler go past it; lifespans, other methods and other paths do not."""
    passed: list[Scope] = []
    handled: list[str] = []

    async def app(scope: Scope, *_: object) -> None:
        passed.append(scope)

    async def handler(request: Request) -> Response:
        handled.append(request.url.path)
        return Response()

    async def send(message: Message) -> None:
        pass

    async def receive() -> Message:
        raise AssertionError

    direct = DirectRoutes(app, {"/a": handler})
    others: list[Scope] = [
        {"type": "lifespan"},
        {"type": "http", "method": "GET", "path": "/a"},
        {"type": "http", "method": "POST", "path": "/b"},
    ]
    for scope in (*others, {"type": "http", "method": "POST", "path": "/a", "headers": []}):
        await direct(scope, receive, send)
    assert passed == others
    assert handled == ["/a"]


async def test_decisions_tell_what_became_of_requests(running: Stand) -> None:
    """The ring has the latest request first, with its reasons and its outcome."""
    await running.chat(2)
    await running.ended()
    running.edge.script = stall_after_first
    async with await running.chat(3, stream=True) as answer:
        await answer.content.readany()
        async with running.client.get(f"{running.url}/prfaas/decisions") as listing:
            latest, earlier = (await listing.json())["decisions"]
    assert (latest["outcome"], latest["prompt_tokens"]) == ("running", 3)
    assert (earlier["outcome"], earlier["status"], earlier["decode"]) == ("local", 200, "edge-0")
    assert earlier["reasons"] == ["2 prompt tokens are within the threshold of 5"]


async def test_engine_that_tokenises_otherwise_gets_prompts_untouched(running: Stand) -> None:
    """An engine that comes back with another chat template makes its own tokens, and no prompt goes elsewhere."""
    running.edge.health_status, running.edge.tokens_shift = 503, 1
    await eventually(lambda: not running.services.fleet.status("edge-0").is_healthy)
    running.edge.health_status = 200
    await eventually(lambda: running.services.fleet.status("edge-0").is_healthy)
    async with await running.chat(10) as answer:
        assert answer.headers["x-prfaas-placement"] == "local"
        assert "other tokens than the gateway" in answer.headers["x-prfaas-reason"]
    assert running.edge.calls[-1].params == {}


async def test_tokens_are_not_trusted_before_they_are_compared(running: Stand) -> None:
    """While no engine can be asked, the gateway is not ready and makes no ids; it asks again until it can."""
    edge = running.edge
    await _come_back(running, 503)
    await eventually(lambda: "cannot be compared" in running.services.fleet.status("edge-0").problem)
    async with running.client.get(f"{running.url}/ready") as answer:
        assert answer.status == 503
    async with await running.chat(10) as answer:
        assert answer.status == 200
        assert NOT_COMPARED in answer.headers["x-prfaas-reason"]
    assert edge.calls[-1].params == {}
    edge.tokenize_status = 200
    await running.probed()
    async with running.client.get(f"{running.url}/ready") as answer:
        assert answer.status == 200
    running.reports.default = USED
    async with await running.chat(10) as answer:
        assert answer.headers["x-prfaas-placement"] == "remote"


async def test_engine_that_refuses_to_tokenise_differs(running: Stand) -> None:
    """An engine that takes no probe is known to differ: ready, with all prompts local and untouched."""
    await _come_back(running, 400)
    await running.probed()
    async with running.client.get(f"{running.url}/ready") as answer:
        assert answer.status == 200
    async with await running.chat(10) as answer:
        assert "other tokens than the gateway" in answer.headers["x-prfaas-reason"]
    assert running.edge.calls[-1].params == {}


async def _come_back(running: Stand, tokenize_status: int) -> None:
    """Have the decode engine go away and come back with this answer to every request for tokens."""
    running.edge.health_status, running.edge.tokenize_status = 503, tokenize_status
    await eventually(lambda: not running.services.fleet.status("edge-0").is_healthy)
    running.edge.health_status = 200


async def test_one_log_line_per_request(running: Stand, caplog: pytest.LogCaptureFixture) -> None:
    """An answered request leaves one line with what an operator looks for."""
    caplog.set_level("INFO", logger="prfaas.gateway")
    await running.chat(2)
    await running.ended()
    [line] = [record.getMessage() for record in caplog.records if record.name == "prfaas.gateway"]
    for part in ("req-1", "chat local", "status=200", "outcome=local", "decode=edge-0", "tokens=2"):
        assert part in line


async def test_openai_client_streams_and_reads_errors(running: Stand) -> None:
    """The official client works against the gateway, and turns its errors into its own exceptions."""
    async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="-", max_retries=0) as client:
        stream = await client.completions.create(model="tiny", prompt="a b", stream=True)
        assert [chunk.choices[0].text async for chunk in stream] == ["tok0", "tok1", "tok2"]
        with pytest.raises(openai.NotFoundError) as refusal:
            await client.completions.create(model="none", prompt="a b")
    assert refusal.value.code == "model_not_found"


async def test_admission_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """Beyond the bound a request is refused at once, logged and counted; a place that becomes free is given again."""
    caplog.set_level("INFO", logger="prfaas.gateway")
    leave = asyncio.Event()
    sent: list[Message] = []

    async def app(*_: object) -> None:
        await leave.wait()

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    metrics = Metrics()
    admission = Admission(app, Inflight(metrics, limit=1))
    scope = {"type": "http", "method": "POST", "path": "/v1/completions"}
    first = asyncio.create_task(admission(scope, receive, send))
    await asyncio.sleep(0)
    await admission(scope, receive, send)
    assert sent[0]["status"] == 503
    assert "code=overloaded" in caplog.text
    leave.set()
    await first
    sent.clear()
    await admission(scope, receive, send)
    assert sent == []
    value = metrics.registry.get_sample_value
    assert value("prfaas_rejected_requests_total", {"status": "503"}) == 1
    assert value("prfaas_inflight_requests") == 0


async def test_metrics_show_the_links_of_engines_that_answer(running: Stand) -> None:
    """What an engine's mover says of its links is on the gateway's metrics until it stops answering."""
    target = running.services.config.engines["edge-0"].kv
    running.reports.links_of[target] = (LinkStatistics("cloud-0", False, goodput_bytes_s=2e6),)

    async def exposition() -> str:
        async with running.client.get(f"{running.url}/metrics") as answer:
            return await answer.text()

    line = 'prfaas_link_goodput_bytes_per_second{direction="receive",engine="edge-0",peer="cloud-0"} 2e+06'
    await eventually(lambda: running.services.metrics.links.of("edge-0"))
    assert line in await exposition()
    del running.reports.links_of[target]
    await eventually(lambda: not running.services.metrics.links.of("edge-0"))
    assert line not in await exposition()
