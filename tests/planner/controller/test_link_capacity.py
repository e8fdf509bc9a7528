"""What a link carries, learnt from its queue."""

import pytest
from msgspec.structs import replace

from prfaas.planner.controller.link_capacity import HOLD_S, LinkCapacity
from tests.planner.controller.fluid import link

GBIT_S = 1e9 / 8


def test_an_idle_link_carries_what_the_configuration_says() -> None:
    """Whatever its last transfer reached: that says how fast the cache was made."""
    capacity = LinkCapacity()
    assert capacity.step(0.0, link(100 * GBIT_S, goodput_bytes_s=GBIT_S, utilisation=0.01)) == 100 * GBIT_S


def test_a_fall_is_noticed_by_the_queue() -> None:
    """From 100 to 8 Gbit/s: nothing of it shows until caches wait; then what leaves is what the link carries."""
    capacity = LinkCapacity()
    capacity.step(0.0, link(100 * GBIT_S, goodput_bytes_s=13 * GBIT_S))
    fallen = link(100 * GBIT_S, goodput_bytes_s=8 * GBIT_S, queued_bytes=3 * 8 * GBIT_S)
    assert capacity.step(1.0, fallen) == pytest.approx(8 * GBIT_S)


def test_congestion_needs_less_of_a_queue() -> None:
    """Half a second's worth with congestion reported, two seconds' without."""
    queued = link(10 * GBIT_S, goodput_bytes_s=GBIT_S, queued_bytes=GBIT_S)
    assert LinkCapacity().step(0.0, queued) == 10 * GBIT_S
    assert LinkCapacity().step(0.0, replace(queued, is_congested=True)) == GBIT_S


def test_a_queue_that_is_cut_off_is_enough_in_time() -> None:
    """Four engines show 1 GiB of theirs at most, a second's worth at 8 Gbit/s: less than two seconds, but it stays."""
    cut_off = link(100 * GBIT_S, goodput_bytes_s=8 * GBIT_S, queued_bytes=float(1 << 30))
    capacity = LinkCapacity()
    found = [capacity.step(float(second), cut_off) / GBIT_S for second in range(4)]
    assert found == pytest.approx([100, 100, 8, 8])
    capacity, changing = LinkCapacity(), (cut_off, replace(cut_off, queued_bytes=0.0)) * 5
    assert {capacity.step(float(second), each) for second, each in enumerate(changing)} == {100 * GBIT_S}


def test_what_is_under_way_does_not_wait() -> None:
    """40 Gbit/s over 100 ms are 500 MB on the path, on a link that carries more."""
    far = link(100 * GBIT_S, goodput_bytes_s=40 * GBIT_S, queued_bytes=5.4e8, utilisation=0.4, rtt_s=0.1)
    capacity = LinkCapacity()
    assert [capacity.step(float(second), far) for second in range(9)] == [100 * GBIT_S] * 9


def test_more_is_tried_slowly_until_the_bandwidth_is_reached() -> None:
    """Two minutes at what was learnt, then twice as much every minute: 8 to 100 Gbit/s in 339 s."""
    capacity = LinkCapacity()
    capacity.step(0.0, link(100 * GBIT_S, goodput_bytes_s=8 * GBIT_S, queued_bytes=100 * GBIT_S))
    found = [capacity.step(float(second), link(100 * GBIT_S, goodput_bytes_s=GBIT_S)) for second in range(1, 400)]
    assert set(found[: int(HOLD_S)]) == {8 * GBIT_S}
    assert found[179] == pytest.approx(16 * GBIT_S)
    assert found == sorted(found)
    assert found[337] < 100 * GBIT_S
    assert found[338] == 100 * GBIT_S


def test_what_a_link_shows_to_carry_is_believed_at_once() -> None:
    """Goodput above the last known capacity."""
    capacity = LinkCapacity()
    capacity.step(0.0, link(100 * GBIT_S, goodput_bytes_s=8 * GBIT_S, queued_bytes=100 * GBIT_S))
    assert capacity.step(1.0, link(100 * GBIT_S, goodput_bytes_s=40 * GBIT_S)) == 40 * GBIT_S


@pytest.mark.parametrize(("goodput", "queued"), [(0.0, 0.0), (0.0, 1e9), (5.0, 1e12)])
def test_a_link_without_bandwidth_carries_nothing(goodput: float, queued: float) -> None:
    """And is no division by zero."""
    capacity, idle = LinkCapacity(), link(0.0, goodput_bytes_s=goodput, queued_bytes=queued)
    assert [capacity.step(float(second), idle) for second in range(3)] == [0.0, 0.0, 0.0]


def test_another_bandwidth_is_followed() -> None:
    """After a change of the configuration, either way."""
    capacity = LinkCapacity()
    found = [capacity.step(float(at), link(each * GBIT_S)) for at, each in enumerate((10, 100, 1))]
    assert found == [10 * GBIT_S, 100 * GBIT_S, GBIT_S]
