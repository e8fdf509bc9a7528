"""Kill -9 of either side at random moments of a transfer: the other side is back at zero once its lease is over."""

import contextlib
import os
import random
import signal

import pytest

from prfaas.transport.messages import LoadFailed, SaveClosed
from tests.transport.movers import CONFIG, SHORT_LEASE_S, Pair, TinyEngine, full_slots, statistics_of

pytestmark = pytest.mark.slow

PIECES = full_slots(16 << 20)
MOMENTS = [random.Random(seed).randrange(len(PIECES)) for seed in range(10)]
"""Pieces that have arrived when it happens."""


class Killed(Exception):
    """The victim is dead; nothing more is staged."""


def transfer_until(pair: Pair, arrived: int, victim: TinyEngine) -> None:
    """Move one cache and kill the victim's mover as soon as so many pieces have arrived."""

    def kill_when_due() -> None:
        pair.poll()
        if len(pair.decode.payloads.get("doomed", ())) >= arrived:
            os.kill(victim.mover.pid, signal.SIGKILL)
            raise Killed

    pair.open("doomed", timeout_s=600.0)  # so that nothing but the lease ends it
    pair.start("doomed", 0, 16 * len(PIECES))
    with contextlib.suppress(Killed):
        pair.prefill.stage("doomed", PIECES, kill_when_due)
        while True:
            kill_when_due()


@pytest.fixture
def pair() -> "Pair":
    return Pair(TinyEngine("cloud", lease_s=SHORT_LEASE_S), TinyEngine("edge", lease_s=SHORT_LEASE_S))


@pytest.mark.parametrize("arrived", MOMENTS)
def test_a_killed_prefill_side_leaves_nothing_at_the_decode_side(pair: Pair, arrived: int) -> None:
    """The load fails, once, and every receive slot is free again."""
    try:
        transfer_until(pair, arrived, pair.prefill)
        assert isinstance(pair.outcome("doomed"), LoadFailed)
        pair.until(lambda: statistics_of(pair.decode).lent_receive_slots == 0)
        assert statistics_of(pair.decode).open_loads == 0
    finally:
        pair.decode.close()
        pair.prefill.close()


@pytest.mark.parametrize("arrived", MOMENTS)
def test_a_killed_decode_side_leaves_nothing_at_the_prefill_side(pair: Pair, arrived: int) -> None:
    """The save is closed with a reason, and the worker has every send slot back."""
    try:
        transfer_until(pair, arrived, pair.decode)
        pair.until(lambda: any(isinstance(m, SaveClosed) and m.reason for m in pair.prefill.worker_heard))
        pair.until(lambda: len(pair.prefill.free_send) == CONFIG.send_slots)
        assert statistics_of(pair.prefill).open_saves == 0
    finally:
        pair.decode.close()
        pair.prefill.close()
