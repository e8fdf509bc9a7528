"""A wide-area link for each test, and two movers at its ends."""

import os
from collections.abc import Iterator

import pytest

from tests.wan.pair import WanPair
from tests.wan.wan import Wan, missing


@pytest.fixture
def wan() -> Iterator[Wan]:
    """200 Mbit/s over 30 ms until the test says otherwise; skipped where there can be none."""
    if reason := missing():
        # Where all of it has to be shown a test that does not run is a failure.
        (pytest.fail if os.environ.get("PRFAAS_NEED_WAN") else pytest.skip)(reason)
    with Wan(rate_mbit=200, rtt_ms=30) as link:
        yield link


@pytest.fixture
def pair(wan: Wan) -> Iterator[WanPair]:
    """Movers in both sites; afterwards every slot and transfer must be home."""
    engines = WanPair.at(wan)
    yield engines
    wan.up()
    engines.settle()
    engines.close()
