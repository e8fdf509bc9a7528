"""Tokenising with the model's own Hugging Face tokenizer and chat template, as vLLM does it."""

import asyncio
import inspect
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import msgspec

from prfaas.errors import ConfigError, RequestRejected
from prfaas.gateway.api_request import ApiRequest
from prfaas.gateway.prompt.content_format import content_format_of
from prfaas.gateway.prompt.conversation import CannotRender, Conversation, conversation_of
from prfaas.gateway.prompt.encoder import Encoder
from prfaas.gateway.prompt.length_bound import LengthBound, growth_of
from prfaas.gateway.prompt.parity import PROBES
from prfaas.gateway.prompt.token_ids import TokenIds
from prfaas.gateway.prompt.tokens import PromptTokens

_ENGINE_ONLY = (
    "echo",
    "suffix",
    "truncate_prompt_tokens",
    "prompt_embeds",
    "return_prompt_text",
    "return_token_offsets",
)
"""Fields for which an engine that is given ids would answer differently than for text."""

_MAX_ID = 2**32 - 1
"""More than any vocabulary has; an id beyond it is the engine's to refuse."""


@contextmanager
def torch_hidden() -> Iterator[None]:
    """Keep transformers from importing torch, which it does wherever torch is installed.

    For a process of its own only: transformers remembers for good that there is no torch. Saves seconds of start
    and hundreds of megabytes on machines that also run engines.
    """
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # type: ignore[assignment]  # None makes importlib find nothing
    try:
        yield
    finally:
        del sys.modules["torch"]


def load_tokenizer(path: str, max_model_len: int) -> "HfPromptTokenizer":
    """Load the tokenizer of a model folder or hub name. Raises ConfigError when there is none to load."""
    from transformers import AutoTokenizer

    try:
        return HfPromptTokenizer(AutoTokenizer.from_pretrained(path), max_model_len)
    except Exception as error:
        # The tokenizers library raises bare Exceptions for a broken file, and transformers whatever its code runs into.
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise ConfigError(f"model.path: {path!r}: no usable tokenizer: {reason}") from None


class HfPromptTokenizer:
    """Tokenises on one thread of its own; the encoder releases the interpreter lock, so the event loop stays free.

    One thread, because fast tokenizers are not safe to share and the machine's cores belong to the engines.
    """

    def __init__(self, tokenizer: Any, max_model_len: int) -> None:
        self._tokenizer = tokenizer
        self._max_model_len = max_model_len
        self._max_chars = max_model_len * max((len(token) for token in tokenizer.get_vocab()), default=1)
        self._reserved = frozenset(inspect.signature(tokenizer.apply_chat_template).parameters)
        self._encoder = Encoder(tokenizer)
        self._bound = LengthBound(growth_of(tokenizer), self._excesses())
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prfaas-tokenise")

    def tokens_now(self, request: ApiRequest, above: int = 0) -> PromptTokens | None:
        for field in _ENGINE_ONLY:
            if request.body.get(field):
                return PromptTokens(None, f"{field} is applied by the engine")
        max_count = self._bound.max_tokens(request)
        if max_count is not None and max_count <= above:
            return PromptTokens(None, max_count=max_count)
        return None

    async def tokens_of(self, request: ApiRequest) -> PromptTokens:
        if (known := self.tokens_now(request)) is not None:
            return known
        try:
            if request.endpoint == "completions":
                return await self._completion(request.body)
            return await self._on_thread(self._chat, request.body)
        except CannotRender as why:
            return PromptTokens(None, str(why))

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def _on_thread(self, function: Any, body: Mapping[str, Any]) -> PromptTokens:
        tokens: PromptTokens = await asyncio.get_running_loop().run_in_executor(self._thread, function, body)
        return tokens

    async def _completion(self, body: Mapping[str, Any]) -> PromptTokens:
        prompt = body.get("prompt")
        if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
            prompt = prompt[0]
        if isinstance(prompt, str) and prompt:
            return await self._on_thread(self._text, {**body, "prompt": prompt})
        if isinstance(prompt, list) and prompt:
            if isinstance(prompt[0], str | list):
                raise CannotRender("several prompts in one request")
            self._check_length(len(prompt), "prompt")  # before each of them is looked at, on the event loop
            if all(type(token) is int and 0 <= token <= _MAX_ID for token in prompt):
                return self._checked(TokenIds.of(prompt), "prompt")
        raise CannotRender("a prompt of an unusual form")

    def _text(self, body: Mapping[str, Any]) -> PromptTokens:
        return self._encoded(body, body["prompt"], body.get("add_special_tokens", True), "prompt")

    def _chat(self, body: Mapping[str, Any]) -> PromptTokens:
        return self._encoded(body, self._rendered(body), body.get("add_special_tokens", False), "messages")

    def _rendered(self, body: Mapping[str, Any]) -> str:
        try:
            template = self._tokenizer.get_chat_template(None, tools=body.get("tools"))
        except ValueError:
            raise CannotRender("the tokenizer has no chat template of its own") from None
        conversation = self._conversation(body, template)
        try:
            text: str = self._tokenizer.apply_chat_template(
                conversation.messages,
                tools=conversation.tools,
                chat_template=template,
                tokenize=False,
                **conversation.variables,
            )
        except Exception:
            # A template is a foreign program and may raise anything. The engine runs the same one and tells the
            # client why it refuses.
            raise CannotRender("the chat template refuses the request") from None
        return text

    def _conversation(self, body: Mapping[str, Any], template: str) -> Conversation:
        try:
            return conversation_of(body, content_format_of(template), self._reserved)
        except CannotRender:
            raise
        except Exception:
            # The body is the client's, of any shape and depth: one that nobody thought of is the engine's to judge.
            raise CannotRender("the request has an unusual form") from None

    def _encoded(self, body: Mapping[str, Any], text: str, add_special_tokens: object, param: str) -> PromptTokens:
        if not isinstance(add_special_tokens, bool):
            raise CannotRender("add_special_tokens is not true or false")
        salt = body.get("cache_salt")
        if salt is not None and not isinstance(salt, str):
            raise CannotRender("cache_salt is not a text")
        if len(text) > self._max_chars:
            raise self._too_long(f"{len(text)} characters", param)
        return self._checked(self._ids_of(text, add_special_tokens, salt), param)

    def _ids_of(self, text: str, add_special_tokens: bool, salt: str | None) -> TokenIds:
        try:
            return self._encoder.ids_of(text, add_special_tokens, salt)
        except Exception:
            # A text that the library does not take, such as one with a lone surrogate, which the JSON within a tool
            # call's arguments can make: models write it when they are cut in the middle of an emoji.
            raise CannotRender("the text has an unusual form") from None

    def _checked(self, ids: TokenIds, param: str) -> PromptTokens:
        if not len(ids):
            raise CannotRender("the prompt is empty")
        self._check_length(len(ids), param)
        return PromptTokens(ids)

    def _excesses(self) -> Iterator[int]:
        """By how much the tokens of some conversations exceed the bytes of their bodies."""
        for endpoint, body in PROBES.values():
            if endpoint == "chat":
                try:
                    count = len(self._ids_of(self._rendered(body), True, None))
                except CannotRender:
                    continue
                yield count - len(msgspec.json.encode(body))

    def _check_length(self, count: int, param: str) -> None:
        """A prompt of just the model's length leaves no room for a token."""
        if count >= self._max_model_len:
            raise self._too_long(f"{count} tokens", param)

    def _too_long(self, length: str, param: str) -> RequestRejected:
        message = f"This model's maximum context length is {self._max_model_len} tokens, but the prompt has {length}."
        return RequestRejected(400, message, param=param, code="context_length_exceeded")
