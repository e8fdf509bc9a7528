"""Connectors that write down when their engine's steps ended and when its loads were reported, for both contestants.

Each line of the file named by ``STEP_TIMES`` is a word and seconds of the monotonic clock, which all processes of a
machine share: ``step`` after a forward pass, ``load`` when after it the worker has an order to load, ``loaded`` when
a cache has been handed to the scheduler.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prfaas.engine.connector import PrfaasConnector

STEP_TIMES = "PRFAAS_BENCHMARK_STEP_TIMES"


def times_of(file: Path, word: str) -> list[float]:
    """The moments with this word, in order; a line that is still being written is left out."""
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    pairs = (line.split() for line in lines if line.endswith("\n"))
    return [float(at_s) for kind, at_s in pairs if kind == word]


class Timed:
    """To mix into a connector."""

    _note: Callable[[str], None] | None = None

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        """vLLM calls it after the forward pass, if there was one, unless a load is synchronous."""
        if forward_context.attn_metadata:
            self._noted("step")
        if getattr(self._get_connector_metadata(), "load_starts", ()):  # type: ignore[attr-defined]  # a mixin
            self._noted("load")
        super().start_load_kv(forward_context, **kwargs)  # type: ignore[misc]  # a mixin: the connector has it

    def get_transfer_results(self, finished_req_ids: set[str]) -> Any:
        results = super().get_transfer_results(finished_req_ids)  # type: ignore[misc]  # as above
        if results.finished_recving:
            self._noted("loaded")
        return results

    def _noted(self, word: str) -> None:
        if self._note is None:
            file = open(os.environ[STEP_TIMES], "a", buffering=1, encoding="utf-8")  # noqa: SIM115 - the engine's life
            self._note = lambda word: print(word, repr(time.monotonic()), file=file)
        self._note(word)


class TimedPrfaasConnector(Timed, PrfaasConnector):
    """Ours."""
