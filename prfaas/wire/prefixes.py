"""The feed of a prefix cache as protobuf, bounded on the way in."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import get_args

from prfaas.errors import RemoteProtocolError
from prfaas.prefix import CacheGroup, FeedCounts, GroupKind, PrefixChange, PrefixGeometry, PrefixUpdate
from prfaas.wire import transfer_pb2 as pb

MAX_HASHES = 2_048
"""In one message: whoever takes it puts them into an index, one after the other, and has other work after some 3 ms."""
MAX_GROUPS = 256
"""vLLM makes a group of a few layers; models with more groups than this are not known."""
MAX_BLOCK_TOKENS = 1 << 20
"""Of a block; a recurrent group without checkpoints has one block for the longest sequence."""
MAX_BLOCKS = 1 << 24
"""Of an engine: the index makes room for so many at once. No engine known has 16 million blocks of 16 tokens."""
ROOT_BYTES = 32


def encode_update(update: PrefixUpdate) -> pb.PrefixUpdate:
    """As protobuf; ``in_parts`` makes updates that are small enough for one message."""
    geometry = None
    if update.geometry is not None:
        groups = [pb.CacheGroup(**asdict(group)) for group in update.geometry.groups]
        geometry = pb.PrefixGeometry(
            hash_tokens=update.geometry.hash_tokens,
            align_tokens=update.geometry.align_tokens,
            root=update.geometry.root,
            groups=groups,
        )
    counts = pb.FeedCounts(**asdict(update.counts)) if update.counts is not None else None
    changes = [pb.PrefixChange(group=c.group, is_stored=c.is_stored, hashes=c.hashes) for c in update.changes]
    return pb.PrefixUpdate(
        geometry=geometry,
        blocks=update.blocks,
        is_reset=update.is_reset,
        is_exact=update.is_exact,
        changes=changes,
        counts=counts,
    )


def decode_update(message: pb.PrefixUpdate) -> PrefixUpdate:
    """Raises RemoteProtocolError for what no engine of ours sends."""
    if sum(len(change.hashes) for change in message.changes) > MAX_HASHES:
        raise RemoteProtocolError(f"more than {MAX_HASHES} block hashes in one message")
    if message.blocks > MAX_BLOCKS:
        raise RemoteProtocolError(f"an engine with more than {MAX_BLOCKS} blocks")
    return PrefixUpdate(
        geometry=_geometry(message.geometry) if message.HasField("geometry") else None,
        blocks=message.blocks,
        is_reset=message.is_reset,
        is_exact=message.is_exact,
        changes=tuple(PrefixChange(c.group, c.is_stored, list(c.hashes)) for c in message.changes),
        counts=_counts(message.counts) if message.HasField("counts") else None,
    )


def in_parts(update: PrefixUpdate) -> Iterator[PrefixUpdate]:
    """The same update as several, in order, none with more than ``MAX_HASHES``."""
    part: list[PrefixChange] = []
    room = MAX_HASHES
    first = replace(update, changes=())
    for change in update.changes:
        start = 0
        while start < len(change.hashes):
            taken = change.hashes[start : start + room]
            part.append(PrefixChange(change.group, change.is_stored, taken))
            start, room = start + len(taken), room - len(taken)
            if not room:
                yield replace(first, changes=tuple(part))
                first, part, room = PrefixUpdate(is_exact=update.is_exact), [], MAX_HASHES
    if part or first.is_reset or first.geometry or first.counts:
        yield replace(first, changes=tuple(part))


def _counts(message: pb.FeedCounts) -> FeedCounts:
    return FeedCounts(message.gaps, message.garbage, message.losses)


def _geometry(message: pb.PrefixGeometry) -> PrefixGeometry:
    groups = tuple(_group(group, message.hash_tokens) for group in message.groups[: MAX_GROUPS + 1])
    sizes = (message.hash_tokens, message.align_tokens)
    is_sound = all(0 < size <= MAX_BLOCK_TOKENS for size in sizes) and message.align_tokens % message.hash_tokens == 0
    is_sound = is_sound and len(groups) <= MAX_GROUPS and len(message.root) == ROOT_BYTES
    is_sound = is_sound and all(message.align_tokens % group.block_tokens == 0 for group in groups)
    if not is_sound:
        raise RemoteProtocolError("the geometry of a prefix cache is out of bounds")
    return PrefixGeometry(message.hash_tokens, message.align_tokens, message.root, groups)


def _group(message: pb.CacheGroup, hash_tokens: int) -> CacheGroup:
    kinds = {kind: kind for kind in get_args(GroupKind)}
    is_sound = 0 < message.block_tokens <= MAX_BLOCK_TOKENS and hash_tokens and message.block_tokens % hash_tokens == 0
    is_sound = is_sound and bool(message.window_blocks) == (message.kind == "window")
    if message.kind not in kinds or not is_sound:
        raise RemoteProtocolError("a group of a prefix cache is out of bounds")
    return CacheGroup(message.index, kinds[message.kind], message.block_tokens, message.window_blocks)
