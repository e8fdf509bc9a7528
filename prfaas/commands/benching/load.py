"""Sending the requests, so many at a time, and noting when their tokens come."""

import asyncio
import json
import random
import ssl
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import aiohttp
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from prfaas.commands.output import can_redraw, console
from prfaas.errors import ConfigError, GatewayUnavailable
from prfaas.measure.engine import own_words
from prfaas.measure.prompts import Prompts

QUESTION_S = 30.0
"""For the list of models."""
READ_BYTES = 1 << 20
"""Room for the longest line of a stream."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked, as the command line has it; lengths in tokens."""

    base: str
    model: str | None
    prompt_tokens: tuple[int, ...]
    output_tokens: int
    requests: int
    concurrency: int
    seed: int
    timeout_s: float

    def lengths(self) -> list[int]:
        """The prompts' lengths, as often each, in an order that the seed gives."""
        lengths = [self.prompt_tokens[at % len(self.prompt_tokens)] for at in range(self.requests)]
        random.Random(f"order {self.seed}").shuffle(lengths)
        return lengths


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one request; seconds from its sending.

    Attributes:
        placement: as the gateway says, empty where none is.
        first_s: to the first output, None without one.
        gaps_s: between one output and the next.
        total_s: to the end.
        tokens: of the answer, as the server counts them, or else its outputs.
        error: why it failed, empty when it did not.
    """

    prompt_tokens: int
    placement: str = ""
    first_s: float | None = None
    gaps_s: tuple[float, ...] = ()
    total_s: float = 0.0
    tokens: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Answers:
    """All of them, and how long they took together."""

    model: str
    answers: tuple[Answer, ...]
    seconds: float


async def run_load(load: Load, context: ssl.SSLContext, key: str | None) -> Answers:
    """Send it, with a bar on stderr. A request that fails is an answer with its error.

    Raises:
        GatewayUnavailable: the server cannot be reached.
        ConfigError: it has no such model.
    """
    headers = {"authorization": f"Bearer {key}"} if key else {}
    timeout = aiohttp.ClientTimeout(total=load.timeout_s)
    tcp = aiohttp.TCPConnector(limit=0, ssl=context)
    async with aiohttp.ClientSession(timeout=timeout, connector=tcp, read_bufsize=READ_BYTES, headers=headers) as http:
        model = await _model(http, load)
        prompts, left = Prompts(load.seed, None, uuid.uuid4().hex), iter(list(enumerate(load.lengths())))
        answers: list[Answer] = []
        with _bar() as progress:
            task = progress.add_task("", total=load.requests, failed="")

            async def work(left: Iterator[tuple[int, int]]) -> None:
                for at, length in left:
                    answers.append(await _ask(http, load, _body(load, model, prompts, at, length), length))
                    failed = sum(bool(each.error) for each in answers)
                    progress.update(task, advance=1, failed=f"{failed} failed" if failed else "")

            began_s = time.monotonic()
            async with asyncio.TaskGroup() as workers:
                for _ in range(load.concurrency):
                    workers.create_task(work(left))
            return Answers(model, tuple(answers), time.monotonic() - began_s)


def _body(load: Load, model: str, prompts: Prompts, at: int, length: int) -> bytes:
    body = {
        "model": model,
        "prompt": prompts.ids(length, at),
        "max_tokens": load.output_tokens,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        "cache_salt": prompts.salt(at),
    }
    return json.dumps(body).encode()


async def _model(http: aiohttp.ClientSession, load: Load) -> str:
    """The one that is asked for, or the first."""
    try:
        async with asyncio.timeout(QUESTION_S), http.get(f"{load.base}/v1/models") as response:
            content = await response.read()
    except (aiohttp.ClientError, OSError) as error:  # a timeout is an OSError
        why = str(error) or type(error).__name__
        raise GatewayUnavailable(f"the gateway at {load.base} cannot be asked: {why}") from None
    if response.status != 200:
        raise ConfigError(f"{load.base}/v1/models answers {response.status}: {own_words(content)}")
    try:
        models = [str(each["id"]) for each in json.loads(content)["data"]]
    except (ValueError, KeyError, TypeError):
        raise GatewayUnavailable(
            f"{load.base}/v1/models lists no models: is this an OpenAI-compatible server?"
        ) from None
    if not models or load.model not in (None, *models):
        raise ConfigError(f"--model {load.model}: there is {', '.join(models[:20]) or 'none'}")
    return load.model or models[0]


async def _ask(http: aiohttp.ClientSession, load: Load, body: bytes, length: int) -> Answer:
    """Send one request and read its stream."""
    began_s = last_s = time.monotonic()
    first_s, gaps_s, tokens, is_over = None, list[float](), 0, False
    placement = error = ""
    try:
        url, kind = f"{load.base}/v1/completions", {"content-type": "application/json"}
        async with http.post(url, data=body, headers=kind) as response:
            placement = response.headers.get("x-prfaas-placement", "")
            if response.status != 200:
                return Answer(length, placement, error=f"{response.status}: {own_words(await response.read())}")
            async for line in response.content:
                if line.startswith(b"data: [DONE]"):
                    is_over = True
                elif line.startswith(b"data: "):
                    now_s, event = time.monotonic(), json.loads(line[6:])
                    if "error" in event:
                        error = own_words(line[6:])
                    tokens = int((event.get("usage") or {}).get("completion_tokens") or tokens)
                    if not event.get("choices"):
                        continue
                    if first_s is None:
                        first_s = now_s - began_s
                    else:
                        gaps_s.append(now_s - last_s)
                    last_s = now_s
    except (aiohttp.ClientError, OSError, ValueError) as failed:
        error = str(failed) or type(failed).__name__
    except (AttributeError, TypeError):
        error = "the stream has an event of another shape than OpenAI's"
    if not error and not is_over:
        error = "the stream broke off"
    outputs = len(gaps_s) + (first_s is not None)
    total_s = time.monotonic() - began_s
    return Answer(length, placement, first_s, tuple(gaps_s), total_s, tokens or outputs, error)


def _bar() -> Progress:
    screen = console(stderr=True)
    columns = (
        *(BarColumn(), MofNCompleteColumn(), TextColumn("requests"), TimeElapsedColumn(), TextColumn("left")),
        *(TimeRemainingColumn(), TextColumn("{task.fields[failed]}", style="red")),
    )
    return Progress(*columns, console=screen, transient=True, disable=not can_redraw(screen))
