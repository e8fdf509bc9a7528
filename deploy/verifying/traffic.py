"""Questions that go on while things break. Each is asked through the gateway and of the edge engine alone."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from deploy.verifying.say import say
from prfaas.errors import EngineUnavailable
from prfaas.launch.demo.compare import MAX_LOGPROB_DIFF, Comparison
from prfaas.launch.demo.questions import make_questions
from prfaas.launch.demo.run import Clients, ask_twice, openai_client

LENGTHS = (60, 400, 2_000, 6_000)
"""Bytes, a token each: two below the local stack's threshold of 512 tokens, two above."""
AT_ONCE = 2
"""Streams of questions: with the engines on two cores, more would only wait."""
PAUSE_S = 0.2
PATIENCE_S = 60.0
"""For the gateway's record of an answer: a laptop whose engines start again answers late."""
TIE = 0.05
"""Lead of one token over another, in logprob, that rounding can turn round on the tiny models."""
SEED = 7


@asynccontextmanager
async def clients(gateway_url: str, edge_url: str, operator_key: str) -> AsyncIterator[Clients]:
    """Connections to the gateway, as a client and as an operator who reads its records, and to the edge engine."""
    operator = {"authorization": f"Bearer {operator_key}"}
    async with (
        openai_client(gateway_url) as gateway,
        openai_client(edge_url) as edge,
        aiohttp.ClientSession(headers=operator) as http,
    ):
        yield Clients(gateway, edge, http, gateway_url)


def is_exact(each: Comparison) -> bool:
    """The same tokens as the engine alone, up to a tie that rounding decides: batches differ while others ask."""
    is_tie = each.tie is not None and each.tie <= TIE
    return (each.tokens_equal or is_tie) and each.logprob_diff <= MAX_LOGPROB_DIFF


@dataclass
class Traffic:
    """What became of the questions so far.

    Attributes:
        answers: those that were answered, in the order of their ends.
        failed: words of those that were not.
    """

    ask_with: Clients
    answers: list[Comparison] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Ask all the while; at the end those under way are waited for."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as streams:
            for number in range(AT_ONCE):
                streams.create_task(self._stream(number, stop))
            try:
                yield
            finally:
                stop.set()

    async def _stream(self, number: int, stop: asyncio.Event) -> None:
        for round_number in itertools.count():
            questions = make_questions(LENGTHS, SEED + number * 100_000 + round_number)
            random.Random(round_number).shuffle(questions)
            for question in questions:
                if stop.is_set():
                    return
                try:
                    answer = await ask_twice(self.ask_with, question, PATIENCE_S)
                except EngineUnavailable as error:
                    self.failed.append(str(error))
                    say(f"NOT answered: {error}")
                else:
                    self.answers.append(answer)
                    if not is_exact(answer):
                        say(f"NOT exact: {answer}")
                await asyncio.sleep(PAUSE_S)

    async def until(self, wanted: int, outcome: str, timeout_s: float) -> None:
        """Wait for ``wanted`` answers from now on that were served so. Raises TimeoutError."""
        first = len(self.answers)
        async with asyncio.timeout(timeout_s):
            while True:
                if sum(each.evidence.outcome == outcome for each in self.answers[first:]) >= wanted:
                    return
                await asyncio.sleep(PAUSE_S)

    async def until_long_local(self, wanted: int, threshold_tokens: int, timeout_s: float) -> None:
        """Wait for ``wanted`` long prompts from now on that the edge answered alone. Raises TimeoutError."""
        first = len(self.answers)
        async with asyncio.timeout(timeout_s):
            while True:
                since = self.answers[first:]
                if sum(each.is_long(threshold_tokens) and not each.is_remote for each in since) >= wanted:
                    return
                await asyncio.sleep(PAUSE_S)
