"""What must be seen by nobody is planted in a real gateway process, and looked for in all that it tells."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import yaml

from tests.gateway.fakes import config_for, eventually
from tests.gateway.planted_gateway import BUG
from tests.gateway.stub_engine import (
    Call,
    Script,
    StubEngine,
    answer_at_once,
    break_off,
    die,
    fail_in_the_stream,
    one_after_another,
    refuse,
    stall_after_first,
)
from tests.ports import free_port
from tests.recorder import Collector, collector

PROMPT = "planted-prompt"
KEYS = {"TENANT_KEY": "planted-tenant-key", "CACHE_SECRET": "planted-cache-secret"}
OPERATOR, COLLECTOR, UNKNOWN = "planted-operator-key", "planted-collector-key", "planted-unknown-key"
ECHO = {"error": {"message": f"cannot answer {PROMPT}", "type": "BadRequestError", "param": None, "code": 500}}


@dataclass
class Planted:
    """The gateway, its engines and its collector.

    Attributes:
        told: what the process has written, once it has ended, and what operators have read of it before.
    """

    url: str
    edge: StubEngine
    cloud: StubEngine
    there: Collector
    client: aiohttp.ClientSession
    told: dict[str, str]

    async def ask(self, path: str = "/v1/chat/completions", key: str = KEYS["TENANT_KEY"], **fields: Any) -> int:
        """Send a request and read its answer, if it comes to one; its status."""
        words, headers = fields.pop("words", 1), fields.pop("headers", {})
        prompt = " ".join([PROMPT] * words)
        body = {"model": "tiny", "messages": [{"role": "user", "content": prompt}], "prompt": prompt, **fields}
        headers = {"authorization": f"Bearer {key}", **headers}
        try:
            async with self.client.post(self.url + path, json=body, headers=headers) as answer:
                await answer.read()
                return answer.status
        except aiohttp.ClientPayloadError:
            return 0

    async def leave(self) -> None:
        """Begin to read an answer, and go away."""
        self.edge.script = stall_after_first
        body = {"model": "tiny", "stream": True, "messages": [{"role": "user", "content": PROMPT}]}
        headers = {"authorization": f"Bearer {KEYS['TENANT_KEY']}"}
        async with self.client.post(f"{self.url}/v1/chat/completions", json=body, headers=headers) as answer:
            await answer.content.readany()
            answer.close()
        self.edge.script = answer_at_once

    async def babble(self) -> None:
        """Send what is no HTTP."""
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(self.url).port)
        writer.write(f"{PROMPT} {PROMPT}\r\nauthorization {KEYS['TENANT_KEY']}\r\n\r\n".encode())
        await reader.read()
        writer.close()

    async def look(self, path: str) -> None:
        """Read what operators read."""
        async with self.client.get(self.url + path, headers={"authorization": f"Bearer {OPERATOR}"}) as answer:
            assert answer.status == 200
            self.told[path] = await answer.text()

    def secrets(self) -> set[str]:
        """All that was planted, with what the gateway itself has made of it for the engines."""
        calls = (*self.edge.calls, *self.cloud.calls)
        made = {call.params["prfaas"]["secret"] for call in calls if "prfaas" in call.params}
        salts = {call.body["cache_salt"] for call in calls if "cache_salt" in call.body}
        return {PROMPT, OPERATOR, COLLECTOR, UNKNOWN, *KEYS.values(), *made, *salts}


@asynccontextmanager
async def planted(folder: Path) -> AsyncIterator[Planted]:
    """A gateway that traces all and logs as much as it can; it has ended when the context has."""
    operator_key = folder / "operator.key"
    operator_key.write_text(OPERATOR)
    told: dict[str, str] = {}
    with collector() as there:
        # After a bug the gateway closes the connection: each request has its own.
        connector = aiohttp.TCPConnector(force_close=True)
        async with (
            StubEngine().running() as edge,
            StubEngine().running() as cloud,
            aiohttp.ClientSession(connector=connector) as client,
        ):
            config = config_for(
                edge.url,
                cloud.url,
                tenants={"acme": {"keys": [{"env": "TENANT_KEY"}]}},
                access={"cache_secret": {"env": "CACHE_SECRET"}},
                observe={"logs": "json", "log_level": "debug", "traces": {"endpoint": there.url}},
            )
            tree = config.model_dump(mode="json", by_alias=True, exclude_none=True)
            tree["gateway"] |= {"port": free_port(), "operator_key_file": str(operator_key)}
            path = folder / "prfaas.yaml"
            path.write_text(yaml.safe_dump(tree))
            headers = f"authorization={COLLECTOR}"
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.gateway.planted_gateway", str(path)),
                env={**os.environ, **KEYS, "OTEL_EXPORTER_OTLP_HEADERS": headers, "PYTHONPATH": "."},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            ending = asyncio.create_task(process.communicate())
            gateway = Planted(f"http://127.0.0.1:{tree['gateway']['port']}", edge, cloud, there, client, told)
            try:
                await until_ready(gateway, ending)
                yield gateway
                process.send_signal(signal.SIGINT)
                for name, text in zip(("stdout", "stderr"), await ending, strict=True):
                    told[name] = text.decode()
            finally:
                if process.returncode is None:
                    process.kill()
                await ending
    assert process.returncode == 0


async def until_ready(gateway: Planted, ending: asyncio.Task[tuple[bytes, bytes]]) -> None:
    """Wait until both engines have been found well, as long as the process lives."""
    while not ending.done():
        try:
            async with gateway.client.get(f"{gateway.url}/ready") as answer:
                if set((await answer.json())["engines"].values()) == {"ok"}:
                    return
        except aiohttp.ClientConnectionError:
            pass
        await asyncio.sleep(0.02)  # another process: nothing tells when it listens
    raise AssertionError(ending.result()[1].decode())


async def echo_in_the_stream(call: Call, request: Any) -> Any:
    """As ``fail_in_the_stream``, with the prompt."""
    response = await fail_in_the_stream(call, request)
    await response.write(f"data: {json.dumps(ECHO)}\n\n".encode())
    return response


async def exercise(gateway: Planted) -> dict[str, int]:
    """Requests that end in every way that there is; the status of each."""
    statuses = {
        "local": await gateway.ask(),
        "remote": await gateway.ask(words=20, stream=True),
        "transfer fails": await gateway.ask(words=20, stream=True),
    }
    gateway.cloud.script = refuse(500, ECHO)
    statuses |= {
        "prefill fails": await gateway.ask(words=20),
        "unknown key": await gateway.ask(key=UNKNOWN),
        "other class": await gateway.ask(headers={"x-prfaas-priority": PROMPT}),
        "other model": await gateway.ask(model=PROMPT),
        "wrong field": await gateway.ask(messages=PROMPT),
        "no such path": await gateway.ask(f"/v1/{PROMPT}?key={KEYS['TENANT_KEY']}"),
        "passed on": await gateway.ask("/v1/messages"),
        "a bug": await gateway.ask(user=BUG),
    }
    headers = {"authorization": f"Bearer {KEYS['TENANT_KEY']}"}
    for name, text in (("bad json", f'{{"model": "{PROMPT}"'), ("bad utf-8", f"{PROMPT}\udcff")):
        data = text.encode(errors="surrogateescape")
        async with gateway.client.post(f"{gateway.url}/v1/completions", data=data, headers=headers) as answer:
            statuses[name] = answer.status
    failing: dict[str, Script] = {
        "engine refuses": refuse(400, ECHO),
        "engine fails": refuse(500, ECHO),
        "engine dies": one_after_another(die, answer_at_once),
        "engine fails in its stream": echo_in_the_stream,
        "engine breaks off": break_off,
    }
    for name, script in failing.items():
        gateway.edge.script = script
        statuses[name] = await gateway.ask(stream=True)
    gateway.edge.script = answer_at_once
    await gateway.babble()
    await gateway.leave()
    return statuses


async def test_nothing_planted_is_told(tmp_path: Path) -> None:
    """Neither prompts nor keys nor secrets of transfers are in logs at their finest, spans, metrics or decisions,
    however requests end; what is there tells of those requests."""
    async with planted(tmp_path) as gateway:
        statuses = await exercise(gateway)
        for path in ("/metrics", "/prfaas/decisions", "/prfaas/engines", "/prfaas/plan"):
            await gateway.look(path)
        ended = len(statuses) - 3  # those with a key and a class of a tenant, to paths that there are
        await eventually(lambda: sum(span.name == "request" for span in gateway.there.spans()) >= ended)
    assert statuses["remote"] == statuses["transfer fails"] == statuses["prefill fails"] == 200
    assert (statuses["unknown key"], statuses["bad json"], statuses["a bug"]) == (401, 400, 500)
    lines = [json.loads(line) for line in gateway.told["stderr"].splitlines()]
    outcomes = {line["outcome"] for line in lines if line.get("event") == "request ended"}
    assert outcomes >= {"local", "remote", "recomputed", "error", "rejected", "cancelled"}
    assert any("ValueError" in line.get("exception", "") for line in lines)
    assert {span.name for span in gateway.there.spans()} >= {"request", "prefill", "decode", "place", "tokenise"}
    everything = {**gateway.told, "spans": b"".join(gateway.there.bodies).decode(errors="replace")}
    secrets = gateway.secrets()
    assert len(secrets) >= 10
    found = {(secret, place) for secret in secrets for place, text in everything.items() if secret in text}
    assert found == set()
