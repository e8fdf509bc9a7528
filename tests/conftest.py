"""For all tests: no example of a property fails because the machine was busy; logs are as they were; and the command
line in this process."""

import logging
import sys
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Commands set up the logs of their process, which here is that of all tests, with a stream of one test."""
    before = [(each, each.handlers[:], each.level) for each in (logging.getLogger(), logging.getLogger("prfaas"))]
    yield
    for logger, handlers, level in before:
        logger.handlers[:] = handlers
        logger.setLevel(level)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs the command line and returns its exit code."""
    # Most tests do without it.
    from prfaas import cli

    def call(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["prfaas", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0)

    return call
