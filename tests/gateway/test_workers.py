"""Several real processes behind one port, started by the command line."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from prfaas.gateway.other_workers import name_of
from prfaas.gateway.workers import METRICS_FOLDER
from tests.commands.gateways import process as command
from tests.gateway.fakes import config_for
from tests.gateway.prompt.samples import TEMPLATES, save_tokenizer
from tests.gateway.stub_engine import EVENTS, StubEngine, hold
from tests.gateway.test_worker_share import bound
from tests.ports import free_port

pytestmark = pytest.mark.slow

ASKED = 12
"""Connections go to either worker: not all of so many to the same one, but for once in thousands."""
REQUESTS = 8


@dataclass
class Running:
    """A supervisor with two workers, in front of a stub engine."""

    process: asyncio.subprocess.Process
    engine: StubEngine
    url: str

    def workers(self) -> list[int]:
        """The ids of the processes below the supervisor."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    async def get(self, path: str) -> tuple[int, str]:
        """One request in a connection of its own, so that any worker may have it; status 0 when there is no answer."""
        try:
            async with aiohttp.ClientSession() as client, client.get(self.url + path) as answer:
                return answer.status, await answer.text()
        except aiohttp.ClientError:
            return 0, ""

    async def told(self, path: str) -> Any:
        """The JSON there."""
        status, text = await self.get(path)
        assert status == 200, text
        return json.loads(text)

    async def post(self, path: str) -> tuple[int, Any]:
        async with aiohttp.ClientSession() as client, client.post(self.url + path) as answer:
            return answer.status, await answer.json()

    async def complete(self, **fields: Any) -> tuple[int, bytes]:
        body = {"model": "tiny", "prompt": "a b", **fields}
        async with (
            aiohttp.ClientSession() as client,
            client.post(f"{self.url}/v1/completions", json=body) as answer,
        ):
            return answer.status, await answer.read()


def edge(engines: list[dict[str, Any]]) -> dict[str, Any]:
    """The one that decodes."""
    return next(each for each in engines if each["name"] == "edge-0")


async def until(predicate: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what other processes do; the test's timeout is the bound."""
    while True:
        if await predicate():
            return
        await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def two_workers(folder: Path, **gateway: Any) -> AsyncIterator[Running]:
    port = free_port()
    async with StubEngine().running() as engine:
        tree = config_for(engine.url, "http://127.0.0.2:9").model_dump(mode="json", by_alias=True)
        tree["model"]["path"] = str(save_tokenizer(folder / "model", TEMPLATES["string"]))
        tree["gateway"] |= {"port": port, "workers": 2, **gateway}
        file = folder / "prfaas.yaml"
        file.write_text(yaml.safe_dump(tree))
        argv = (sys.executable, "-m", "prfaas.cli", "gateway", "--config", str(file))
        process = await asyncio.create_subprocess_exec(*argv, env={**os.environ, "PYTHONPATH": "."})
        running = Running(process, engine, f"http://127.0.0.1:{port}")
        try:
            await until(lambda: _is_ready(running))
            yield running
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()


def shared_folder(pid: int) -> Path:
    """That of the gateway of which this is a worker."""
    environment = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return Path(dict(each.partition("=")[::2] for each in environment)[METRICS_FOLDER])


async def _is_ready(running: Running) -> bool:
    """Two workers run, and those that answer have compared their tokens; one that still starts takes no connection."""
    statuses = {(await running.get("/ready"))[0] for _ in range(20)}
    return statuses == {200} and len(running.workers()) == 2 and await _are_heard(running, 2)


def _is_alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


async def test_metrics_of_all_workers_are_read_anywhere(tmp_path: Path) -> None:
    """Whichever worker is asked tells the sum of all, and an engine's health once."""
    async with two_workers(tmp_path) as running:
        for _ in range(20):
            assert (await running.complete())[0] == 200
        line = 'prfaas_tenant_requests_total{priority="interactive",tenant=""} 20.0'
        for _ in range(10):
            status, text = await running.get("/metrics")
            assert status == 200
            assert line in text.splitlines()
            assert text.count('\nprfaas_engine_healthy{engine="edge-0"} ') == 1


async def test_crashed_worker_is_started_again(tmp_path: Path) -> None:
    """While one is killed the other answers, and soon there are two again; what was counted stays counted."""
    async with two_workers(tmp_path) as running:
        for _ in range(10):
            await running.complete()
        killed, kept = running.workers()
        os.kill(killed, signal.SIGKILL)
        await until(lambda: _is_gone(killed))
        for _ in range(10):
            assert (await running.complete())[0] == 200
        await until(lambda: _is_ready(running))
        assert kept in running.workers()
        assert killed not in running.workers()
        _, text = await running.get("/metrics")
        assert 'prfaas_tenant_requests_total{priority="interactive",tenant=""} 20.0' in text.splitlines()


async def test_stop_lets_answers_end(tmp_path: Path) -> None:
    """After SIGTERM a running answer comes to its end, the exit code is 0, and nothing is left behind."""
    async with two_workers(tmp_path, shutdown_grace_s=20) as running:
        release = asyncio.Event()
        running.engine.script = hold(release)
        asking = asyncio.create_task(running.complete(stream=True))
        await running.engine.call(0)
        workers = running.workers()
        running.process.terminate()
        await until(lambda: _is_refused(running))
        release.set()
        assert await asking == (200, b"".join(EVENTS))
        assert await running.process.wait() == 0
        assert not any(_is_alive(pid) for pid in workers)


async def test_workers_do_not_outlive_a_killed_supervisor(tmp_path: Path) -> None:
    """SIGKILL leaves the supervisor no word; its workers see it gone and stop."""
    async with two_workers(tmp_path) as running:
        workers = running.workers()
        running.process.kill()
        await running.process.wait()
        for pid in workers:
            await until(partial(_is_gone, pid))
        assert (await running.get("/health"))[0] == 0


async def test_every_worker_tells_of_all(tmp_path: Path) -> None:
    """An engine that one worker still streams from is idle to none, and its request is in everybody's figures; once it
    has ended the engine is drained to all."""
    async with two_workers(tmp_path) as running:
        release = asyncio.Event()
        running.engine.script = hold(release)
        asking = asyncio.create_task(running.complete(stream=True))
        await running.engine.call(0)
        status, drained = await running.post("/prfaas/engines/edge-0/drain")
        assert (status, drained["state"], drained["inflight"]) == (200, "draining", 1)
        for _ in range(ASKED):
            engine = edge((await running.told("/prfaas/engines"))["engines"])
            assert (engine["state"], engine["inflight"]) == ("draining", 1)
            told = await running.told("/prfaas/status")
            assert (told["gateway"]["workers"], told["gateway"]["heard_workers"]) == (2, 2)
            assert (edge(told["engines"])["state"], edge(told["engines"])["inflight"]) == ("draining", 1)
            assert (told["admission"]["running"], told["recent"]["outcomes"]) == (1, {"running": 1})
        [decision] = (await running.told("/prfaas/decisions"))["decisions"]
        release.set()
        assert (await asking)[0] == 200
        for _ in range(ASKED):
            assert edge((await running.told("/prfaas/engines"))["engines"])["state"] == "drained"
            found = await running.told(f"/prfaas/requests/{decision['request_id']}")
            assert found["decision"]["request_id"] == decision["request_id"]


async def test_no_engine_is_idle_while_a_worker_is_silent(tmp_path: Path) -> None:
    """One that hangs may have requests: the other says so, and that the engine drains on."""
    async with two_workers(tmp_path) as running:
        hung = running.workers()[0]
        os.kill(hung, signal.SIGSTOP)
        try:
            ended = await command("drain", "edge-0", "--url", running.url)
            why = " (workers of the gateway that do not answer: 1)"
            assert (ended.code, ended.out) == (0, f"edge-0: draining, requests in flight: 0{why}\n")
            told = await running.told("/prfaas/engines")
            assert (edge(told["engines"])["state"], told["silent_workers"]) == ("draining", 1)
            ended = await command("drain", "edge-0", "--wait", "--timeout-s", "0.1", "--url", running.url)
            assert (ended.code, ended.out) == (1, "")
            assert why in ended.err
            assert (await running.told("/prfaas/status"))["gateway"]["heard_workers"] == 1
        finally:
            os.kill(hung, signal.SIGCONT)
        ended = await command("drain", "edge-0", "--wait", "--url", running.url)
        assert (ended.code, ended.out) == (0, "edge-0: drained, requests in flight: 0\n")


async def test_a_killed_worker_holds_up_no_drain(tmp_path: Path) -> None:
    """Its requests are gone with it: with a socket of its that nobody cleans up it is neither waited for nor counted.
    The new one has heard of the drain."""
    async with two_workers(tmp_path) as running:
        await running.post("/prfaas/engines/edge-0/drain")
        killed, kept = running.workers()
        folder = shared_folder(kept)
        os.kill(killed, signal.SIGKILL)
        await until(partial(_is_gone, killed))
        await until(lambda: _are_heard(running, 2))
        bound(folder, name_of(killed)).close()
        for _ in range(ASKED):
            told = await running.told("/prfaas/engines")
            assert (edge(told["engines"])["state"], told["silent_workers"]) == ("drained", 0)
        assert (folder / name_of(killed)).exists()


async def test_decisions_of_all_are_followed_once_each(tmp_path: Path) -> None:
    """Whichever worker a poll reaches, every request that ends is a line, and none is two."""
    async with two_workers(tmp_path) as running:
        argv = (*("decisions", "--follow", "--json", "--interval-s", "0.1"), "--url", running.url)
        env = {**os.environ, "PYTHONPATH": "."}
        following = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "prfaas.cli", *argv), env=env, stdout=asyncio.subprocess.PIPE
        )
        assert following.stdout is not None
        lines = []
        for _ in range(REQUESTS):
            await running.complete()
            lines.append(await following.stdout.readline())
        await asyncio.sleep(1)  # ten polls more, of both workers: what is told twice is there by now
        following.send_signal(signal.SIGINT)
        assert await following.stdout.read() == b""
        await following.wait()
        ids = [json.loads(line)["request_id"] for line in lines]
        kept = (await running.told("/prfaas/decisions"))["decisions"]
        assert ids == [each["request_id"] for each in reversed(kept)]
        assert len(set(ids)) == REQUESTS


async def test_unusable_configuration_stops_all(tmp_path: Path) -> None:
    """What no new start would mend ends the supervisor with the code of a wrong configuration."""
    tree = config_for("http://127.0.0.1:9", "http://127.0.0.2:9").model_dump(mode="json", by_alias=True)
    tree["gateway"] |= {"port": free_port(), "workers": 2}
    file = tmp_path / "prfaas.yaml"
    file.write_text(yaml.safe_dump(tree))
    argv = (sys.executable, "-m", "prfaas.cli", "gateway", "--config", str(file))
    process = await asyncio.create_subprocess_exec(
        *argv, env={**os.environ, "PYTHONPATH": "."}, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert b"model.path: '/nowhere'" in errors


async def _are_heard(running: Running, workers: int) -> bool:
    return bool((await running.told("/prfaas/status"))["gateway"]["heard_workers"] == workers)


async def _is_gone(pid: int) -> bool:
    return not _is_alive(pid)


async def _is_refused(running: Running) -> bool:
    return (await running.get("/health"))[0] == 0
