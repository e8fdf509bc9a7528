from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from prfaas.launch import readiness
from prfaas.launch.readiness import until_healthy, until_remote, warm_up
from tests.ports import free_port


class Server:
    """A server that answers from lists: one status per health question, one outcome per completion."""

    def __init__(self) -> None:
        self.health: list[int] = []
        self.outcomes: list[str] = []
        self.prompts: list[str] = []
        self.url = f"http://127.0.0.1:{free_port()}"

    async def on_health(self, _: web.Request) -> web.Response:
        return web.Response(status=self.health.pop(0))

    async def on_completion(self, request: web.Request) -> web.Response:
        self.prompts.append((await request.json())["prompt"])
        if not self.outcomes:
            return web.json_response({"error": {"message": "out of answers"}}, status=503)
        return web.json_response({}, headers={"x-prfaas-outcome": self.outcomes.pop(0)})


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    """The server, running; between two questions hardly any time passes."""
    monkeypatch.setattr(readiness, "POLL_S", 0.001)
    found = Server()
    app = web.Application()
    app.add_routes([web.get("/health", found.on_health), web.post("/v1/completions", found.on_completion)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(found.url.rpartition(":")[2])).start()
    yield found
    await runner.cleanup()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_healthy_is_the_first_200(server: Server, http: aiohttp.ClientSession) -> None:
    """A server that says 503 while it starts is asked again."""
    server.health = [503, 500, 200, 500]
    await until_healthy(http, f"{server.url}/health")
    assert server.health == [500]


async def test_remote_is_the_first_remote_outcome(server: Server, http: aiohttp.ClientSession) -> None:
    """Recomputed answers are not enough, and no prompt can be answered from another one's cache."""
    server.outcomes = ["recomputed", "recomputed", "remote", "recomputed"]
    await until_remote(http, f"{server.url}/v1/completions", {"prompt": "hello"})
    assert server.outcomes == ["recomputed"]
    assert len({prompt.partition(" ")[0] for prompt in server.prompts}) == 3


async def test_error_answers_are_told(server: Server, http: aiohttp.ClientSession) -> None:
    """An error answer ends the warm-up with its status and message."""
    with pytest.raises(RuntimeError, match=r"503: .*out of answers"):
        await warm_up(http, f"{server.url}/v1/completions", {"prompt": "hello"})
