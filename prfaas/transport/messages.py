"""Everything that crosses the boundary between an engine's processes and its mover.

Three parties: the *scheduler* (the connector in vLLM's engine core), the *worker* (the connector in the model
runner's process) and the *mover* (the process that owns sockets and staging). Each message is one datagram on a
Unix SOCK_SEQPACKET socket, encoded with msgspec; order is kept per socket, not between the two sockets, so a
receiver accepts that, say, ``Staged`` of a transfer arrives before ``OfferSave`` of the same transfer.

"Save" is the prefill side of a transfer, "load" the decode side.

Staging is one shared memory with two arenas of equal slots. The worker owns the *send* slots: it writes one, lends
it with ``Staged`` and gets it back with ``SlotsFree``. The mover owns the *receive* slots: it fills one, lends it
with ``Arrived`` and gets it back with ``SlotsDone``. A slot holds exactly one piece.
"""

import msgspec

from prfaas.tracing import TraceContext
from prfaas.types import MoverStatistics


class SlotPiece(msgspec.Struct, frozen=True, array_like=True):
    """A ``prfaas.types.Piece`` and the slot that holds its payload (from the slot's first byte)."""

    layer: int
    part: int
    index: int
    first: int
    count: int
    length: int
    slot: int


# scheduler -> mover ---------------------------------------------------------------------------------------------


class OpenLoad(msgspec.Struct, frozen=True, tag=True):
    """Decode side, on arrival of the request: dial ``remote`` ("host:port") and open the transfer.

    The load fails by itself ``timeout_s`` seconds after this message, and at once when the prefill engine computes with
    another ``adapter``: the digest of the request's LoRA adapter, empty for none. ``trace`` is the request's.
    """

    transfer_id: str
    secret: str
    remote: str
    timeout_s: float
    adapter: str = ""
    trace: TraceContext | None = None


class DeclineLoad(msgspec.Struct, frozen=True, tag=True):
    """Decode side, on arrival of a request whose cache will not be loaded: the gateway hears ``reason`` at once."""

    transfer_id: str
    secret: str
    reason: str


class StartLoad(msgspec.Struct, frozen=True, tag=True):
    """Decode side, blocks are allocated: let data flow.

    ``held_tokens`` of the attention rows are already here and are not sent; the recurrent state and the rows
    ``held_tokens .. num_tokens`` are. ``num_tokens`` is the token count the state must match.
    """

    transfer_id: str
    held_tokens: int
    num_tokens: int


class OfferSave(msgspec.Struct, frozen=True, tag=True):
    """Prefill side, on arrival of the request: a decode engine that knows ``secret`` may open this transfer, if it
    computes with the same ``adapter`` (see ``OpenLoad``).

    The offer is dropped when nobody opens it, or it is not finished, within ``timeout_s`` seconds.
    """

    transfer_id: str
    secret: str
    num_tokens: int
    timeout_s: float
    adapter: str = ""
    trace: TraceContext | None = None


class Cancel(msgspec.Struct, frozen=True, tag=True):
    """Either side, from scheduler or worker: the request is gone or failed; idempotent.

    For a load the mover sends no further ``Arrived``; slots lent before stay lent until ``SlotsDone``.
    """

    transfer_id: str
    reason: str


# worker -> mover ------------------------------------------------------------------------------------------------


class Staged(msgspec.Struct, frozen=True, tag=True):
    """Prefill side: these send slots hold finished pieces; the mover sends them and returns the slots."""

    transfer_id: str
    pieces: list[SlotPiece]


class SaveEnd(msgspec.Struct, frozen=True, tag=True):
    """Prefill side: every piece of the transfer has been staged; make the manifest.

    ``prefill_end_s`` is the CLOCK_MONOTONIC second at which the last forward pass ended.
    """

    transfer_id: str
    num_tokens: int
    prefill_end_s: float


class SlotsDone(msgspec.Struct, frozen=True, tag=True):
    """Decode side: these receive slots have been copied out and belong to the mover again."""

    slots: list[int]


class AskStatistics(msgspec.Struct, frozen=True, tag=True):
    """The mover answers with one ``Statistics``; the worker asks again only after that."""


# mover -> worker ------------------------------------------------------------------------------------------------


class SlotsFree(msgspec.Struct, frozen=True, tag=True):
    """Prefill side: the peer has these pieces (or the transfer is over); the send slots are the worker's again."""

    slots: list[int]


class HeldTokens(msgspec.Struct, frozen=True, tag=True):
    """Prefill side: the decode side holds this many tokens of attention rows; pieces below need no staging."""

    transfer_id: str
    held_tokens: int


class SaveClosed(msgspec.Struct, frozen=True, tag=True):
    """Prefill side: the transfer is over for good; stage nothing more of it. ``reason`` is empty on success."""

    transfer_id: str
    reason: str


class Arrived(msgspec.Struct, frozen=True, tag=True):
    """Decode side: verified pieces lie in these receive slots."""

    transfer_id: str
    pieces: list[SlotPiece]


class Statistics(msgspec.Struct, frozen=True, tag=True):
    """The mover's figures when it was asked."""

    figures: MoverStatistics


# mover -> worker and scheduler ----------------------------------------------------------------------------------


class LoadComplete(msgspec.Struct, frozen=True, tag=True):
    """Decode side: the manifest is verified, every piece was sent as ``Arrived`` before this message."""

    transfer_id: str
    num_tokens: int
    cache_bytes: int
    early_bytes: int


class LoadFailed(msgspec.Struct, frozen=True, tag=True):
    """Decode side: the load will not complete. Sent once, also in answer to ``Cancel``; no ``Arrived`` follows."""

    transfer_id: str
    reason: str


class Ready(msgspec.Struct, frozen=True, tag=True):
    """First message to every engine party: the mover listens on ``listen`` ("host:port", "" if it does not)."""

    listen: str


# worker -> mover: the final word on a load ------------------------------------------------------------------------


class LoadUsed(msgspec.Struct, frozen=True, tag=True):
    """Decode side, from the worker: the cache was injected (``ok``) or could not be used (``reason``).

    Ends the transfer's report; the mover answers waiting ``Report`` calls of the gateway with it.
    """

    transfer_id: str
    ok: bool
    reason: str


FromScheduler = OpenLoad | DeclineLoad | StartLoad | OfferSave | Cancel
FromWorker = Staged | SaveEnd | SlotsDone | LoadUsed | Cancel | AskStatistics
ToWorker = Ready | SlotsFree | HeldTokens | SaveClosed | Arrived | LoadComplete | LoadFailed | Statistics
ToScheduler = Ready | LoadComplete | LoadFailed

FromEngine = (
    OpenLoad | DeclineLoad | StartLoad | OfferSave | Cancel | Staged | SaveEnd | SlotsDone | LoadUsed | AskStatistics
)
ToEngine = Ready | SlotsFree | HeldTokens | SaveClosed | Arrived | LoadComplete | LoadFailed | Statistics

MAX_PIECES_PER_MESSAGE = 256
"""Bound of ``Staged`` and ``Arrived``: keeps a datagram far below the default socket buffer of 208 KiB."""

MAX_SLOTS_PER_MESSAGE = 4_096
"""Bound of ``SlotsFree``: at most 20 KiB; the end of a large transfer frees tens of thousands of slots at once."""
