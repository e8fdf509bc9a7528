"""What the transfer state machines want done; their owner does it, in the order returned."""

from dataclasses import dataclass

from prfaas.types import Piece
from prfaas.wire.control import ControlMessage


@dataclass(frozen=True, slots=True)
class Send:
    """Put a message on the session's control stream."""

    message: ControlMessage


@dataclass(frozen=True, slots=True)
class Lend:
    """Decode side: hand a verified piece, and its receive slot, to the engine."""

    piece: Piece
    slot: int


@dataclass(frozen=True, slots=True)
class Complete:
    """Decode side: the manifest is verified and every piece was lent before."""

    num_tokens: int
    cache_bytes: int
    early_bytes: int


@dataclass(frozen=True, slots=True)
class TellHeld:
    """Prefill side: tell the engine how many tokens the decode side already holds."""

    held_tokens: int


@dataclass(frozen=True, slots=True)
class FreeSlots:
    """These slots hold nothing of the transfer any more: send slots of a save, receive slots of a load."""

    slots: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Close:
    """The transfer is over, ``reason`` is empty on success. The last action that a machine ever returns, except
    ``FreeSlots`` for slots that were being written."""

    reason: str


LoadAction = Send | Lend | FreeSlots | Complete | Close
SaveAction = Send | TellHeld | FreeSlots | Close
