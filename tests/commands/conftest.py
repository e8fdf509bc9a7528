"""The command line beside a running gateway."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.commands.gateways import Told
from tests.gateway.conftest import patient as patient
from tests.gateway.conftest import running as running

Ask = Callable[..., Coroutine[Any, Any, Told]]


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the person's own environment counts."""
    for name in ("PRFAAS_CONFIG", "PRFAAS_URL", "PRFAAS_KEY_FILE", "COLUMNS", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def ask(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> Ask:
    """Runs the command line in a thread, so that a gateway in this loop can answer it."""

    async def call(*arguments: object) -> Told:
        code = await asyncio.to_thread(run, *arguments)
        out, err = capsys.readouterr()
        return Told(code, out, err)

    return call
