"""The decode side's loads without a network."""

import mmap
from dataclasses import replace

import pytest

from prfaas.clock import ManualClock
from prfaas.transport.dialer import Dialer
from prfaas.transport.loads import Loads
from prfaas.transport.messages import LoadFailed, OpenLoad, ToScheduler, ToWorker
from prfaas.transport.report_book import ReportBook
from prfaas.transport.staging import Staging
from prfaas.wire.session import Identity
from tests.transport.movers import CONFIG


class Engine:
    """Hears what the mover says."""

    def __init__(self) -> None:
        self.heard: list[ToWorker] = []

    def to_worker(self, message: ToWorker) -> None:
        self.heard.append(message)

    def to_schedulers(self, message: ToScheduler) -> None:
        pass


def no_dialer(address: str) -> Dialer:
    pytest.fail(f"{address} was dialed")


async def test_an_address_that_is_not_configured_is_not_dialed() -> None:
    """A request may come from a stranger: its load fails with the reason, and nothing is kept of the address."""
    engine = Engine()
    staging = Staging.create(slot_bytes=mmap.PAGESIZE, send_slots=1, receive_slots=1)
    config = replace(CONFIG, dials=("127.0.0.1:7111",))
    us = Identity("edge", 1, mmap.PAGESIZE, config.fingerprint)
    loads = Loads(config, us, staging, engine, ReportBook(), ManualClock(), no_dialer)
    loads.open(OpenLoad("t", "secret", "10.0.0.1:22", 30.0))
    (failed,) = engine.heard
    assert isinstance(failed, LoadFailed)
    assert "10.0.0.1:22 is the kv endpoint of no engine" in failed.reason
    assert (loads.open_loads, loads.open_sessions) == (0, 0)
    staging.close()
