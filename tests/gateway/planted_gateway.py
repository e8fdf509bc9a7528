"""A gateway process for ``test_planted_secrets``: the real one but for its tokenizer and the movers' word."""

import itertools
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from prfaas.config import load_config
from prfaas.errors import TransferFailed
from prfaas.gateway import serve
from prfaas.gateway.api_request import ApiRequest
from prfaas.gateway.prompt.tokens import PromptTokens
from prfaas.observe.logs import configure
from prfaas.observe.settings import LogSettings
from prfaas.prefix import PrefixUpdate
from prfaas.types import MoverStatistics, TransferReport
from tests.gateway.fakes import WordTokenizer

BUG = "bug"
"""A prompt with this word meets one."""


class QuotingTokenizer(WordTokenizer):
    """Has a bug whose error quotes the prompt."""

    async def tokens_of(self, request: ApiRequest) -> PromptTokens:
        if BUG in str(request.body):
            raise ValueError(f"cannot read {request.body}")
        return await super().tokens_of(request)


class Reports:
    """The first transfer comes to a good end, the second fails; nothing is known of others, nor else of movers."""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    async def wait(self, target: str, transfer_id: str, secret: str, timeout_s: float) -> TransferReport:
        if (number := next(self._numbers)) > 1:
            raise TransferFailed("unknown transfer")
        if number == 0:
            return TransferReport(transfer_id, ok=True, tokens=19)
        return TransferReport(transfer_id, ok=False, reason="the link was cut")

    async def statistics(self, target: str) -> MoverStatistics:
        raise TransferFailed(f"{target} cannot be reached")

    async def prefixes(self, target: str) -> AsyncIterator[PrefixUpdate]:
        raise TransferFailed(f"{target} cannot be reached")
        yield

    async def aclose(self) -> None:
        pass


def main() -> None:
    """Serve the configuration file that is the first argument."""
    config = load_config(Path(sys.argv[1]), {})
    configure(LogSettings(**config.observe.log_fields(site=config.gateway.site)))
    setattr(serve, "load_tokenizer", lambda path, max_model_len: QuotingTokenizer(max_model_len))  # noqa: B010  # for mypy
    serve.serve(config, Reports())


if __name__ == "__main__":
    main()
