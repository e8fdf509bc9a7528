"""vLLM's events become a set of blocks, and the set a feed."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prfaas.errors import RemoteProtocolError
from prfaas.prefix import CacheGroup, FeedCounts, PrefixChange, PrefixGeometry, PrefixUpdate
from prfaas.wire import transfer_pb2 as pb
from prfaas.wire.kv_events import BlockRemoved, BlockStored, decode_events
from prfaas.wire.prefix_set import PrefixSet
from prfaas.wire.prefixes import MAX_BLOCKS, MAX_HASHES, decode_update, encode_update, in_parts

GEOMETRY = PrefixGeometry(16, 48, b"r" * 32, (CacheGroup(0, "full", 16), CacheGroup(2, "window", 48, 3)))


def batch(*events: object) -> bytes:
    return msgspec.msgpack.encode([1.5, list(events), 0])


def stored(*hashes: int | bytes, group: int = 0, **fields: object) -> dict[str, object]:
    fields = {"parent_block_hash": None, "token_ids": [1, 2, 3], "block_size": 3, "medium": "GPU", **fields}
    return {"type": "BlockStored", "block_hashes": list(hashes), "group_idx": group, **fields}


def test_a_batch_is_read_without_its_tokens() -> None:
    removed = {"type": "BlockRemoved", "block_hashes": [(1 << 64) - 1], "medium": "GPU", "group_idx": 1}
    events = decode_events(batch(stored(7, b"\x01" + bytes(31), group=1), removed, {"type": "AllBlocksCleared"}))
    assert [type(event).__name__ for event in events] == ["BlockStored", "BlockRemoved", "AllBlocksCleared"]
    assert isinstance(events[0], BlockStored)
    assert not hasattr(events[0], "token_ids")
    assert PrefixSet([1]).apply(events[0]) == PrefixChange(1, True, [7, 0])


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xc1", msgspec.msgpack.encode({"ts": 1}), batch({"type": "Unheard"}), batch(stored("text")), batch(7)],  # type: ignore[arg-type]  # wrong on purpose
)
def test_garbage_is_refused_without_being_quoted(payload: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match=r"^not a batch of cache events \(\w+\)$"):
        decode_events(payload)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(payload: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        decode_events(payload)


@pytest.mark.parametrize("fields", [{"ownership": "disk"}, {"locality": "REMOTE"}])
def test_blocks_of_other_tiers_are_left_out(fields: dict[str, object]) -> None:
    assert decode_events(batch({**stored(7), **fields})) == []


def test_a_block_stored_twice_stays_until_it_is_removed_twice() -> None:
    blocks = PrefixSet([0])
    assert blocks.apply(BlockStored([1, 2], 0)) == PrefixChange(0, True, [1, 2])
    assert blocks.apply(BlockStored([2, 3], 0)) == PrefixChange(0, True, [3])
    assert blocks.apply(BlockRemoved([1, 2], 0)) == PrefixChange(0, False, [1])
    assert blocks.apply(BlockRemoved([2, 9], 0)) == PrefixChange(0, False, [2])
    assert blocks.apply(BlockStored([5], 4)) is None
    assert blocks.snapshot() == [PrefixChange(0, True, [3])]
    blocks.clear()
    assert blocks.snapshot() == []


UPDATES = st.builds(
    PrefixUpdate,
    st.none() | st.just(GEOMETRY),
    st.integers(0, MAX_BLOCKS),
    st.booleans(),
    st.booleans(),
    st.lists(
        st.builds(PrefixChange, st.integers(0, 9), st.booleans(), st.lists(st.integers(0, (1 << 64) - 1))), max_size=5
    ).map(tuple),
    st.none() | st.builds(FeedCounts, *[st.integers(0, (1 << 64) - 1)] * 3),
)


@given(UPDATES)
def test_an_update_survives_the_wire(update: PrefixUpdate) -> None:
    assert decode_update(pb.PrefixUpdate.FromString(encode_update(update).SerializeToString())) == update


def test_a_large_update_leaves_in_parts_that_are_taken() -> None:
    changes = (
        PrefixChange(0, True, list(range(MAX_HASHES - 1))),
        PrefixChange(1, True, list(range(2 * MAX_HASHES + 3))),
        PrefixChange(2, False, [5]),
    )
    parts = list(in_parts(PrefixUpdate(GEOMETRY, 9, is_reset=True, changes=changes)))
    assert [sum(len(c.hashes) for c in part.changes) for part in parts] == [MAX_HASHES] * 3 + [3]
    assert [part.is_reset for part in parts] == [True, False, False, False]
    assert [part.geometry for part in parts] == [GEOMETRY, None, None, None]
    got: dict[int, list[int]] = {}
    for part in parts:
        for change in decode_update(encode_update(part)).changes:
            got.setdefault(change.group, []).extend(change.hashes)
    assert got == {change.group: change.hashes for change in changes}


def test_an_empty_reset_leaves_and_an_empty_change_does_not() -> None:
    assert list(in_parts(PrefixUpdate(is_reset=True))) == [PrefixUpdate(is_reset=True)]
    assert list(in_parts(PrefixUpdate())) == []
    assert list(in_parts(PrefixUpdate(counts=FeedCounts(gaps=1)))) == [PrefixUpdate(counts=FeedCounts(gaps=1))]


@pytest.mark.parametrize(
    "geometry",
    [
        pb.PrefixGeometry(hash_tokens=0, align_tokens=16, root=bytes(32)),
        pb.PrefixGeometry(hash_tokens=16, align_tokens=24, root=bytes(32)),
        pb.PrefixGeometry(hash_tokens=16, align_tokens=16, root=b"short"),
        pb.PrefixGeometry(hash_tokens=16, align_tokens=1 << 31, root=bytes(32)),
        pb.PrefixGeometry(hash_tokens=16, align_tokens=16, root=bytes(32), groups=[pb.CacheGroup(kind="full")]),
        pb.PrefixGeometry(
            hash_tokens=1, align_tokens=1, root=bytes(32), groups=[pb.CacheGroup(kind="odd", block_tokens=1)]
        ),
        pb.PrefixGeometry(
            hash_tokens=1, align_tokens=3, root=bytes(32), groups=[pb.CacheGroup(kind="full", block_tokens=2)]
        ),
    ],
)
def test_a_geometry_out_of_bounds_is_refused(geometry: pb.PrefixGeometry) -> None:
    with pytest.raises(RemoteProtocolError, match="out of bounds"):
        decode_update(pb.PrefixUpdate(geometry=geometry))


def test_an_engine_with_more_blocks_than_there_are_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="blocks"):
        decode_update(pb.PrefixUpdate(blocks=MAX_BLOCKS + 1))


def test_too_many_hashes_in_one_message_are_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="more than"):
        decode_update(pb.PrefixUpdate(changes=[pb.PrefixChange(hashes=range(MAX_HASHES + 1))]))
