"""What the pipeline gets from tokenising, and from whom."""

from dataclasses import dataclass
from typing import Protocol

from prfaas.gateway.api_request import ApiRequest
from prfaas.gateway.prompt.token_ids import TokenIds


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """The prompt's token ids, or the reason why only the engine can make them, or that they are too few to matter.

    Attributes:
        ids: exactly what the engine would make of the request, None when that cannot be known here or is not needed.
        untouched_reason: why ``ids`` cannot be known; such a request goes to the engine as the client sent it.
        max_count: the prompt has no more tokens than this, known without making them; it too goes as it came.
    """

    ids: TokenIds | None
    untouched_reason: str = ""
    max_count: int | None = None

    @property
    def count(self) -> int | None:
        """Length of the prompt in tokens, None when it was not counted here."""
        return None if self.ids is None else len(self.ids)


class PromptTokenizer(Protocol):
    """Makes token ids of requests, off the event loop."""

    def tokens_now(self, request: ApiRequest, above: int = 0) -> PromptTokens | None:
        """What is known without tokenising: it is the engine's to do, or the request's bytes say that there cannot be
        more than ``above`` tokens. None when the request has to be tokenised."""
        ...

    async def tokens_of(self, request: ApiRequest) -> PromptTokens:
        """Tokenise one request. Raises RequestRejected when the prompt exceeds the model's length."""
        ...

    def close(self) -> None:
        """Stop the threads; no request is being tokenised any more."""
        ...
