"""The rules of the test WAN itself: without sockets, root or time."""

import mmap
from dataclasses import replace

import pytest

from tests.wan.forward import MEMORY_BYTES, Pipe, PipeCounters, PipeMemory, PipeSettings

SETTINGS = PipeSettings(rate_bytes_s=1_000_000, delay_s=0.1, loss=0.0, queue_s=0.0205)
PACKET = bytes(1000)
"""1 ms on that link."""


def test_packets_leave_after_their_turn_at_the_bottleneck_and_the_delay() -> None:
    """Three packets at once come out 1 ms apart, the first after its own time and the delay."""
    pipe = Pipe(seed=1)
    for _ in range(3):
        pipe.enter(PACKET, SETTINGS, 5.0, 5.0)
    assert pipe.leaving(5.1005) == []
    assert len(pipe.leaving(5.1011)) == 1
    assert len(pipe.leaving(5.1031)) == 2
    assert pipe.counters == PipeCounters(packets=3, bytes=3000)


def test_a_full_queue_drops_at_its_tail() -> None:
    """20 ms of queue hold 20 packets beside the one being sent."""
    pipe = Pipe(seed=1)
    for _ in range(30):
        pipe.enter(PACKET, SETTINGS, 5.0, 5.0)
    assert pipe.counters.dropped == 9
    assert len(pipe.leaving(6.0)) == 21


def test_loss_is_random_and_repeatable() -> None:
    """The share is as asked, the same seed loses the same packets."""
    lossy = replace(SETTINGS, loss=0.1, rate_bytes_s=1e12)
    lost = []
    for _ in range(2):
        pipe = Pipe(seed=7)
        for _ in range(10_000):
            pipe.enter(PACKET, lossy, 5.0, 5.0)
        lost.append(pipe.counters.lost)
    assert lost[0] == lost[1] == pytest.approx(1000, rel=0.1)


def test_an_outage_loses_what_enters_and_delivers_what_is_on_its_way() -> None:
    """Settings hold for packets that enter after them."""
    pipe = Pipe(seed=1)
    pipe.enter(PACKET, SETTINGS, 5.0, 5.0)
    pipe.enter(PACKET, replace(SETTINGS, is_down=True), 5.0, 5.0)
    assert len(pipe.leaving(6.0)) == 1
    assert pipe.counters.lost == 1


def test_a_shorter_delay_does_not_reorder() -> None:
    """A packet that enters after a route change waits for those before it."""
    pipe = Pipe(seed=1)
    pipe.enter(b"first" * 100, SETTINGS, 5.0, 5.0)
    pipe.enter(b"second", replace(SETTINGS, delay_s=0.0), 5.0, 5.0)
    assert pipe.leaving(5.05) == []
    assert pipe.leaving(5.2) == [b"first" * 100, b"second"]


def test_settings_and_counters_pass_through_shared_memory() -> None:
    """Both sides have their own place."""
    memory = mmap.mmap(-1, MEMORY_BYTES)
    sides = [PipeMemory(memory, side) for side in (0, 1)]
    for side, pipe in enumerate(sides):
        pipe.set(replace(SETTINGS, loss=side / 10, is_down=bool(side)))
        pipe.count(PipeCounters(side, 1 << 40, 3, 4))
    for side, pipe in enumerate(sides):
        assert pipe.settings() == replace(SETTINGS, loss=side / 10, is_down=bool(side))
        assert pipe.counters() == PipeCounters(side, 1 << 40, 3, 4)


def test_a_late_look_costs_no_capacity_and_shortens_no_delay() -> None:
    """Ten packets found 10 ms late were sent meanwhile; they leave together, a full delay from now."""
    pipe = Pipe(seed=1)
    for _ in range(10):
        pipe.enter(PACKET, SETTINGS, 5.0, 5.01)
    assert pipe.leaving(5.1099) == []
    assert len(pipe.leaving(5.1101)) == 10
