"""vLLM's cache events as its ZMQ publisher sends them, read without the prompts that are in them."""

from collections.abc import Sequence

import msgspec

from prfaas.errors import RemoteProtocolError

MASK = (1 << 64) - 1


class BlockStored(msgspec.Struct, tag=True, frozen=True):
    """Blocks of a group became reusable. A group of recurrent layers may name fewer blocks than its tokens span."""

    block_hashes: Sequence[int | bytes]
    group_idx: int | None = None
    locality: str | None = None
    ownership: str | None = None


class BlockRemoved(msgspec.Struct, tag=True, frozen=True):
    """Blocks of a group were overwritten."""

    block_hashes: Sequence[int | bytes]
    group_idx: int | None = None
    locality: str | None = None
    ownership: str | None = None


class AllBlocksCleared(msgspec.Struct, tag=True, frozen=True):
    """The whole prefix cache was reset."""


KvEvent = BlockStored | BlockRemoved | AllBlocksCleared


class _Batch(msgspec.Struct, array_like=True):
    ts: float
    events: list[KvEvent]
    data_parallel_rank: int | None = None


_decoder = msgspec.msgpack.Decoder(_Batch)


def decode_events(payload: bytes) -> list[KvEvent]:
    """The events of one batch, in order; those of other tiers than the engine's own cache are left out.

    Raises:
        RemoteProtocolError: it is no batch of events as vLLM 0.32 makes them.
    """
    try:
        events = _decoder.decode(payload).events
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        # The text of the error may quote a token id or two, never a prompt; its type is enough all the same.
        raise RemoteProtocolError(f"not a batch of cache events ({type(error).__name__})") from None
    return [event for event in events if isinstance(event, AllBlocksCleared) or _is_own(event)]


def hashes_of(event: BlockStored | BlockRemoved) -> list[int]:
    """The low 64 bits of the hashes, which is what vLLM sends unless it is told to send whole ones."""
    return [each & MASK if isinstance(each, int) else int.from_bytes(each, "big") & MASK for each in event.block_hashes]


def _is_own(event: BlockStored | BlockRemoved) -> bool:
    return event.ownership is None and event.locality in (None, "LOCAL")
