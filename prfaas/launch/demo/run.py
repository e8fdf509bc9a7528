"""The demo from the first process to the last line."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import aiohttp
from openai import AsyncOpenAI, DefaultAsyncHttpxClient, OpenAIError
from rich.console import Console

from prfaas.clock import MonotonicClock
from prfaas.config import Config
from prfaas.errors import EngineUnavailable
from prfaas.launch.demo.ask import ask
from prfaas.launch.demo.compare import Comparison, compare, is_success, summarize
from prfaas.launch.demo.evidence import PATIENCE_S, fetch_evidence
from prfaas.launch.demo.questions import Question, make_questions
from prfaas.launch.demo.show import comparison_table
from prfaas.launch.local import THRESHOLD_TOKENS, gateway_url, make_model, start_local
from prfaas.launch.progress import ConsoleProgress, Progress
from prfaas.launch.sole_use import sole_use
from prfaas.launch.stack import Stack

PROMPT_BYTES = (40, 300, 1_500, 5_000, 20_000)
SEED = 20_260
ANSWER_TIMEOUT_S = 180.0
"""The longest prompt takes some seconds on one core; a machine that is busy with other things several times that."""


@dataclass(frozen=True)
class Clients:
    """The open connections of the demo."""

    gateway: AsyncOpenAI
    edge: AsyncOpenAI
    http: aiohttp.ClientSession
    gateway_url: str


async def run_demo(folder: Path) -> int:
    """Run the demo with its files below ``folder``; returns 0 when every answer was exact and every long one remote.

    Progress goes to stderr; the table and, as the last line, the summary in JSON to stdout.

    Raises:
        FolderInUse: another stack runs in ``folder``.
        ProcessFailed: something did not start, or ended on the way.
        EngineUnavailable: the gateway or the engine did not answer a question.
    """
    console = Console()
    progress = ConsoleProgress(Console(stderr=True), MonotonicClock())
    with sole_use(folder):
        model = await make_model(folder / "models", folder / "logs", progress)
        async with Stack(folder / "logs", progress) as stack:
            config = await start_local(stack, progress, model, folder, gateway_port=8000)
            comparisons = await stack.while_alive(_ask_everything(config, progress))
            console.print(comparison_table(comparisons))
    print(json.dumps(summarize(comparisons, THRESHOLD_TOKENS)), flush=True)
    return 0 if is_success(comparisons, THRESHOLD_TOKENS) else 1


async def _ask_everything(config: Config, progress: Progress) -> list[Comparison]:
    questions = make_questions(PROMPT_BYTES, SEED)
    comparisons = []
    with progress.shown():
        async with _clients(config) as clients:
            for number, question in enumerate(questions, 1):
                progress.update("questions", f"{number} of {len(questions)}: {len(question.text):,} bytes")
                comparisons.append(await ask_twice(clients, question))
            progress.update("questions", f"{len(questions)} asked twice", done=True)
    return comparisons


async def ask_twice(clients: Clients, question: Question, patience_s: float = PATIENCE_S) -> Comparison:
    """Through the gateway, then on the edge engine alone, which a salt keeps from finding the first one's cache.

    Raises:
        EngineUnavailable: no answer, or no complete record of it within ``patience_s``.
    """
    clock = MonotonicClock()
    try:
        through_gateway = await ask(clients.gateway, question, clock)
        alone = await ask(clients.edge, question, clock, {"cache_salt": uuid4().hex})
    except OpenAIError as error:
        raise EngineUnavailable(f"a question of {len(question.text)} bytes was not answered: {error}") from None
    evidence = await fetch_evidence(clients.http, clients.gateway_url, through_gateway.request_id, patience_s)
    return compare(question.stream, through_gateway, alone, evidence)


@asynccontextmanager
async def _clients(config: Config) -> AsyncIterator[Clients]:
    url = gateway_url(config)
    edge_url = config.engines["edge-0"].url
    async with openai_client(url) as gateway, openai_client(edge_url) as edge, aiohttp.ClientSession() as http:
        yield Clients(gateway, edge, http, url)


def openai_client(url: str) -> AsyncOpenAI:
    """A client that never retries, as a hidden second attempt would hide a failure, and heeds no proxy: the stack is on
    this machine. A connection for each request: one that its server just gives up would look like a failure."""
    http = DefaultAsyncHttpxClient(trust_env=False)
    return AsyncOpenAI(
        base_url=f"{url}/v1",
        api_key="none",
        max_retries=0,
        timeout=ANSWER_TIMEOUT_S,
        http_client=http,
        default_headers={"connection": "close"},
    )
