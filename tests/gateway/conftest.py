from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.gateway.fakes import Stand, stand


@pytest.fixture
async def running() -> AsyncIterator[Stand]:
    async with stand() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[Stand]:
    """One gateway for all tests of a module that leave no trace in it."""
    async with stand() as running:
        yield running
