"""Sending one question through the ``openai`` client and keeping what the comparison needs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openai import AsyncOpenAI, AsyncStream
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionTokenLogprob
from openai.types.chat.chat_completion import ChoiceLogprobs
from openai.types.chat.chat_completion_chunk import ChoiceLogprobs as ChunkLogprobs

from prfaas.clock import Clock
from prfaas.launch.demo.questions import Question
from prfaas.launch.local import MODEL_NAME

ANSWER_TOKENS = 24
TOKEN_IDS = {"return_tokens_as_token_ids": True}
"""vLLM then names tokens by id: two different tokens can look the same as text."""


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        tokens: the answer's tokens, as ``token_id:N``.
        logprobs: of these tokens, in the same order.
        leads: by how much each token's logprob leads that of the runner-up; small means a near-tie.
        first_token_s: seconds to the first token, or to the whole answer when it was not streamed.
        request_id: the server's id of the request, empty if it told none.
    """

    tokens: tuple[str, ...]
    logprobs: tuple[float, ...]
    leads: tuple[float, ...]
    first_token_s: float
    request_id: str


async def ask(client: AsyncOpenAI, question: Question, clock: Clock, extra: Mapping[str, Any] | None = None) -> Answer:
    """Ask greedily with logprobs; ``extra`` goes into the body beside OpenAI's fields.

    Raises:
        openai.OpenAIError: no answer, an error answer, or a stream that broke off.
    """
    request = {
        "model": MODEL_NAME,
        "messages": [{"role": "user", "content": question.text}],
        "max_tokens": ANSWER_TOKENS,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": 2,
        "extra_body": {**TOKEN_IDS, **(extra or {})},
    }
    return await (_streamed if question.stream else _whole)(client, request, clock)


async def _whole(client: AsyncOpenAI, request: Mapping[str, Any], clock: Clock) -> Answer:
    started_s = clock.now_s()
    response = await client.chat.completions.with_raw_response.create(**request)
    completion: ChatCompletion = response.parse()
    return _answer(_content(completion.choices[0].logprobs), clock.now_s() - started_s, response.headers)


async def _streamed(client: AsyncOpenAI, request: Mapping[str, Any], clock: Clock) -> Answer:
    started_s = clock.now_s()
    first_token_s = None
    content: list[ChatCompletionTokenLogprob] = []
    response = await client.chat.completions.with_raw_response.create(**request, stream=True)
    stream: AsyncStream[ChatCompletionChunk] = response.parse()
    async with stream:
        async for chunk in stream:
            content += _content(chunk.choices[0].logprobs) if chunk.choices else []
            if content and first_token_s is None:
                first_token_s = clock.now_s() - started_s
    return _answer(content, first_token_s or 0.0, response.headers)


def _content(logprobs: ChoiceLogprobs | ChunkLogprobs | None) -> list[ChatCompletionTokenLogprob]:
    return (logprobs and logprobs.content) or []


def _answer(content: list[ChatCompletionTokenLogprob], first_token_s: float, headers: Mapping[str, str]) -> Answer:
    return Answer(
        tokens=tuple(item.token for item in content),
        logprobs=tuple(item.logprob for item in content),
        leads=tuple(map(_lead, content)),
        first_token_s=first_token_s,
        request_id=headers.get("x-request-id", ""),
    )


def _lead(item: ChatCompletionTokenLogprob) -> float:
    others = [other.logprob for other in item.top_logprobs if other.token != item.token]
    return item.logprob - max(others, default=-math.inf)
