"""The memory between a worker and its mover."""

import os

import pytest

from prfaas.transport.staging import Staging

SIZES = {"slot_bytes": 4096, "send_slots": 2, "receive_slots": 3}


def test_both_mappings_see_the_same_bytes() -> None:
    """What one process writes to a slot the other reads there, send slots first."""
    ours = Staging.create(**SIZES)
    theirs = Staging.attach(os.dup(ours.fd), **SIZES)
    ours.send_slot(1)[:4] = b"send"
    theirs.receive_slot(2)[-4:] = b"recv"
    assert bytes(theirs.send_slot(1)[:4]) == b"send"
    assert bytes(ours.buffer[-4:]) == b"recv"
    assert len(ours.buffer) == 5 * 4096
    ours.close()
    theirs.close()


@pytest.mark.parametrize("slot", [-1, 2, 3])
def test_slots_are_checked(slot: int) -> None:
    """A slot number of the other arena, or none at all, never yields memory."""
    staging = Staging.create(**SIZES)
    with pytest.raises(IndexError, match=f"send slot {slot} of 2"):
        staging.send_slot(slot)
    staging.close()


@pytest.mark.parametrize("sizes", [{**SIZES, "slot_bytes": 1000}, {**SIZES, "send_slots": 0, "receive_slots": 0}])
def test_impossible_sizes_are_refused(sizes: dict[str, int]) -> None:
    """Slots are whole pages, and there is at least one; nothing is left open."""
    before = os.listdir("/proc/self/fd")
    with pytest.raises(ValueError, match="slot"):
        Staging.create(**sizes)
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_view_outlives_close() -> None:
    """The memory goes with its last view, so closing under a tensor is safe; closing twice is, too."""
    staging = Staging.create(**SIZES)
    view = staging.send_slot(0)
    staging.close()
    staging.close()
    view[:2] = b"ok"
    assert bytes(view[:2]) == b"ok"
