from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.gateway.fakes import Stand, stand


@pytest.fixture(scope="session", autouse=True)
def patient() -> Iterator[None]:
    """A machine that stands still for seconds makes no engine ill: no test is about these bounds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("prfaas.gateway.watch.PROBE_TIMEOUT_S", 60.0)
        patch.setattr("prfaas.gateway.upstream.CONNECT_TIMEOUT_S", 60.0)
        yield


@pytest.fixture
async def running() -> AsyncIterator[Stand]:
    async with stand() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[Stand]:
    """One gateway for all tests of a module that leave no trace in it."""
    async with stand() as running:
        yield running
