"""Movers shared by the tests of one module: starting one takes half a second."""

from collections.abc import Iterator

import pytest

from tests.transport.movers import Pair, TinyEngine
from tests.transport.site_certificates import NAMES, make_sites, settings


@pytest.fixture(scope="session", autouse=True)
def patient() -> Iterator[None]:
    """A machine that stands still for seconds loses no answer: no test is about these bounds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("prfaas.transport.report.STATISTICS_TIMEOUT_S", 60.0)
        patch.setattr("prfaas.transport.report.REPLY_MARGIN_S", 60.0)
        yield


@pytest.fixture(scope="module")
def shared_pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A pair for tests that leave both engines alive, over plain TCP or what the module's parameter says."""
    link = getattr(request, "param", "tcp")
    if not link.endswith("tls"):
        prefill = TinyEngine("cloud")
        decode = TinyEngine("edge", grpc_peers=(prefill.mover.listen,) if link == "grpc" else ())
    else:
        folder = tmp_path_factory.mktemp("certificates")
        make_sites(folder)
        prefill = TinyEngine("cloud", tls=settings(folder, "cloud"))
        remote = prefill.mover.listen
        grpc_peers = (remote,) if link == "grpc-tls" else ()
        decode = TinyEngine("edge", tls=settings(folder, "edge", {remote: NAMES["cloud"]}), grpc_peers=grpc_peers)
    yield Pair(prefill, decode)
    decode.close()
    prefill.close()


@pytest.fixture
def pair(shared_pair: Pair) -> Iterator[Pair]:
    """The shared pair; afterwards every slot and transfer must be home."""
    yield shared_pair
    shared_pair.settle()
