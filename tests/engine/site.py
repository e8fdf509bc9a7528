"""A gateway process in front of real engines, and how to ask it."""

import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from prfaas.config import parse_config
from prfaas.launch.engine_command import Command
from prfaas.launch.local import gateway_url
from prfaas.launch.stack import Service
from tests.engine.models import prompt_tokens
from tests.engine.pair import Answer, EnginePair, parse_answer, until
from tests.exact import assert_equal

GATEWAY = "gateway"
ANSWER_TOKENS = 8


@dataclass
class Site:
    """Engines behind a gateway process."""

    pair: EnginePair
    url: str
    gateway: Service
    path: Path
    """The gateway's configuration."""

    @classmethod
    async def before(
        cls,
        pair: EnginePair,
        folder: Path,
        tree: Mapping[str, Any] | None = None,
        program: Sequence[str] = ("prfaas.cli", "gateway"),
        name: str = GATEWAY,
    ) -> "Site":
        """Start a gateway before the engines; it stops with them. ``tree`` is its configuration, else the engines';
        ``program`` a module that serves it, with arguments; ``name`` one of its own beside another gateway."""
        path = folder / "prfaas.yaml"
        tree = tree or pair.config.model_dump(mode="json", by_alias=True)
        path.write_text(yaml.safe_dump(tree), encoding="utf-8")
        url = gateway_url(parse_config(tree))
        argv = (sys.executable, "-m", *program, "--config", str(path))
        gateway = Service(name, Command(argv), health_url=f"{url}/ready", start_timeout_s=60)
        await pair.stack.start([gateway])
        return cls(pair, url, gateway, path)

    def body(self, prompt: Sequence[int], **fields: Any) -> dict[str, Any]:
        return {
            "model": self.pair.config.model.name,
            "prompt": list(prompt),
            "max_tokens": ANSWER_TOKENS,
            "min_tokens": ANSWER_TOKENS,
            "temperature": 0,
            "logprobs": 1,
            "return_token_ids": True,
            "cache_salt": self.pair.salt(),
            **fields,
        }

    async def ask(self, prompt: Sequence[int], **fields: Any) -> tuple[Answer, dict[str, str]]:
        """A completion through the gateway, with its headers."""
        async with self.pair.http.post(f"{self.url}/v1/completions", json=self.body(prompt, **fields)) as response:
            text = await response.text()
            assert response.status == 200, text
            return parse_answer(json.loads(text)), _lower(response.headers)

    async def stream(
        self, prompt: Sequence[int], count: int, meanwhile: Callable[[], Awaitable[None]] | None = None
    ) -> tuple[tuple[int, ...], dict[str, str]]:
        """The ids of a streamed answer of ``count`` tokens, which ends once; ``meanwhile`` is done after the first."""
        body = self.body(prompt, stream=True, max_tokens=count, min_tokens=count)
        tokens: list[int] = []
        ends: list[str] = []
        async with self.pair.http.post(f"{self.url}/v1/completions", json=body) as response:
            assert response.status == 200, await response.text()
            async for line in response.content:
                if line.startswith(b"data: {"):
                    choice = json.loads(line[6:])["choices"][0]
                    tokens += choice["token_ids"]
                    ends += filter(None, [choice["finish_reason"]])
                    if meanwhile is not None:
                        action, meanwhile = meanwhile, None
                        await action()
                elif line.strip():
                    ends.append(line.decode().strip())
            assert_equal(ends, ["length", "data: [DONE]"])
            return tuple(tokens), _lower(response.headers)

    async def sends_away(self) -> bool:
        """Whether a long prompt is prefilled in the other site at present."""
        _, headers = await self.ask(prompt_tokens(700, seed=3))
        return headers.get("x-prfaas-outcome") == "remote"

    async def decisions(self) -> list[dict[str, Any]]:
        """What the gateway tells of its last requests, the latest first."""
        async with self.pair.http.get(f"{self.url}/prfaas/decisions") as response:
            found: list[dict[str, Any]] = (await response.json())["decisions"]
            return found

    async def decision(self, headers: Mapping[str, str]) -> dict[str, Any]:
        """The record of an answered request, once that is complete."""
        found: dict[str, Any] = {}

        async def is_over() -> bool:
            found.update(next(d for d in await self.decisions() if d["request_id"] == headers["x-request-id"]))
            return found["total_s"] is not None

        await until(is_over)
        return found

    async def running(self) -> dict[str, Any]:
        """The decision of the one request that runs, as soon as there is one."""
        found: list[dict[str, Any]] = []

        async def is_there() -> bool:
            found[:] = [each for each in await self.decisions() if each["outcome"] == "running"]
            return bool(found)

        await until(is_there)
        return found[0]

    async def metric(self, name: str, **labels: str) -> float:
        """Sum of one of the gateway's metrics over all labels but these."""
        async with self.pair.http.get(f"{self.url}/metrics") as response:
            lines = (await response.text()).splitlines()
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        samples = (line.rsplit(" ", 1) for line in lines if line.split("{")[0].split(" ")[0] == name)
        return sum(float(value) for key, value in samples if all(label in key for label in wanted))


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {key.lower(): value for key, value in headers.items()}
