"""Does the gateway make the same token ids as a running engine?

The renderings can part where an engine is started with its own ``--chat-template`` or default template arguments, or
where the gateway's model folder is not the engine's. A few probes tell: an engine renders them at ``/tokenize``.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from prfaas.errors import RequestRejected
from prfaas.gateway.api_request import ApiRequest, Endpoint
from prfaas.gateway.prompt.tokens import PromptTokenizer, PromptTokens

Ask = Callable[[Mapping[str, Any]], Awaitable[list[int] | None]]
"""Has an engine tokenise the body of a ``/tokenize`` request; None when it refuses. Raises EngineUnavailable."""
NOT_COMPARED = "the gateway's tokens have not been compared with an engine's yet"

_CALL = {"id": "call-1", "type": "function", "function": {"name": "look", "arguments": '{"place": "here", "far": 1}'}}
_TOOL = {"type": "function", "function": {"name": "look", "description": "Look.", "parameters": {"type": "object"}}}
_PARTS = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]

PROBES: Mapping[str, tuple[Endpoint, Mapping[str, Any]]] = {
    "text": ("completions", {"prompt": "Grüße, <|im_end|> and 你好."}),
    "chat": ("chat", {"messages": [{"role": "user", "content": "Hello."}]}),
    "system": ("chat", {"messages": [{"role": "system", "content": "Be."}, {"role": "user", "content": "Hi."}]}),
    "parts": ("chat", {"messages": [{"role": "user", "content": _PARTS}]}),
    "turns": (
        "chat",
        {"messages": [{"role": role, "content": role} for role in ("user", "assistant", "user")]},
    ),
    "continued": (
        "chat",
        {
            "messages": [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Well"}],
            "add_generation_prompt": False,
            "continue_final_message": True,
        },
    ),
    "tools": (
        "chat",
        {
            "messages": [
                {"role": "user", "content": "Look."},
                {"role": "assistant", "content": None, "tool_calls": [_CALL]},
                {"role": "tool", "tool_call_id": "call-1", "content": "Nothing."},
            ],
            "tools": [_TOOL],
        },
    ),
}
"""What the gateway itself leaves to the engine is skipped, so a probe that a template refuses does no harm."""


async def mismatches(tokenizer: PromptTokenizer, ask: Ask) -> list[str]:
    """The names of the probes for which the gateway's ids differ from the engine's; empty when all agree.

    An engine that refuses what the gateway makes ids of differs. Raises EngineUnavailable.
    """
    differing = []
    for name, (endpoint, body) in PROBES.items():
        try:
            ours = await tokenizer.tokens_of(ApiRequest(endpoint, body))
        except RequestRejected:
            continue  # a model too short for the probe; the gateway makes no ids of it
        if ours.ids is not None and ours.ids.to_list() != await ask(body):
            differing.append(name)
    return differing


class CheckedTokenizer:
    """A tokenizer whose ids are used only while engines are known to make the same, and none to make others.

    Attributes:
        unchecked: the tokenizer itself, for comparing.
    """

    def __init__(self, tokenizer: PromptTokenizer) -> None:
        self.unchecked = tokenizer
        self._differing: dict[str, list[str]] = {}

    @property
    def problem(self) -> str:
        """Why all tokenising is left to the engines, empty when it is not."""
        if not self._differing:
            return NOT_COMPARED
        names = sorted({name for names in self._differing.values() for name in names})
        return f"the engines make other tokens than the gateway ({', '.join(names)})" if names else ""

    def knows(self, engine: str) -> bool:
        """Has this engine been compared?"""
        return engine in self._differing

    def note(self, engine: str, differing: list[str]) -> None:
        """Remember for which probes an engine differs, empty when for none."""
        self._differing[engine] = differing

    def forget(self, engine: str) -> None:
        """An engine that is gone may come back as another one."""
        self._differing.pop(engine, None)

    def tokens_now(self, request: ApiRequest, above: int = 0) -> PromptTokens | None:
        if problem := self.problem:
            return PromptTokens(None, problem)
        return self.unchecked.tokens_now(request, above)

    async def tokens_of(self, request: ApiRequest) -> PromptTokens:
        if problem := self.problem:
            return PromptTokens(None, problem)
        return await self.unchecked.tokens_of(request)

    def close(self) -> None:
        self.unchecked.close()
