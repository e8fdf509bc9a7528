"""The prefill side of one transfer, from the engine's offer to the decode side's ``Done``.

Rules: the engine's messages come over two sockets, so pieces may be staged before the offer. Frames are sent only
after the decode side's ``Start``. Pieces whose rows it already holds are dropped: they are neither sent nor in the
manifest. A slot stays lent until the decode side has acknowledged its frame or the transfer is over; while a frame
is being written to a socket its slot stays lent in any case, for the bytes must not change under the kernel. A frame
that did not arrive leaves again from its slot, before all others, a bounded number of times.
"""

import enum
import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

from prfaas.tracing import TraceContext
from prfaas.types import Part, Piece
from prfaas.wire.actions import Close, FreeSlots, SaveAction, Send, TellHeld
from prfaas.wire.control import Abort, Accepted, Entry, Manifest, Start
from prfaas.wire.ranges import RangeSet

MAX_SENDS = 6
"""Times one frame is sent: a path that loses or damages the same frame so often does so on purpose."""


class SaveState(enum.Enum):
    """Where a save stands."""

    STAGED = "staged"
    OFFERED = "offered"
    ACCEPTED = "accepted"
    STREAMING = "streaming"
    ENDED = "ended"
    CLOSED = "closed"


class SaveEvent(enum.Enum):
    """What can happen to a save."""

    OFFER = "offer"
    OPEN = "open"
    START = "start"
    MANIFEST = "manifest"
    DONE = "done"
    FAIL = "fail"


TRANSITIONS: dict[tuple[SaveState, SaveEvent], SaveState] = {
    (SaveState.STAGED, SaveEvent.OFFER): SaveState.OFFERED,
    (SaveState.OFFERED, SaveEvent.OPEN): SaveState.ACCEPTED,
    (SaveState.ACCEPTED, SaveEvent.START): SaveState.STREAMING,
    (SaveState.STREAMING, SaveEvent.MANIFEST): SaveState.ENDED,
    (SaveState.ENDED, SaveEvent.DONE): SaveState.CLOSED,
    **{(state, SaveEvent.FAIL): SaveState.CLOSED for state in SaveState if state is not SaveState.CLOSED},
}
"""Every pair that is not here is a violation and fails the save (or is ignored once it is over). A peer that opens
first waits outside, in ``doorway.py``: only the right secret binds it to a save."""


@dataclass(frozen=True, slots=True)
class StagedPiece:
    """A piece and the send slot that holds it."""

    piece: Piece
    slot: int


@dataclass(frozen=True, slots=True)
class OutgoingFrame:
    """A frame that may be sent now; ``sends`` counts the times, this one included."""

    save: "Save"
    sequence: int
    piece: Piece
    slot: int
    sends: int = 1


class Save:
    """One transfer as the prefill side sees it. Methods return actions for the owner; time is an argument."""

    def __init__(self, transfer_id: str, deadline_s: float) -> None:
        self.transfer_id = transfer_id
        self.secret = ""
        self.adapter = ""
        self.opener: TraceContext | None = None
        self.handle = -1
        self.state = SaveState.STAGED
        self._deadline_s = deadline_s
        self._open_by_s = math.inf
        self._held_tokens = 0
        self._staged: list[StagedPiece] = []
        self._queue: deque[OutgoingFrame] = deque()
        self._lent: set[int] = set()
        self._writing: set[int] = set()
        self._ranges: dict[tuple[int, int, int], RangeSet] = {}
        self._frames = self._payload_bytes = 0
        self._end: tuple[int, int] | None = None

    @property
    def is_over(self) -> bool:
        """Nothing can happen to it any more."""
        return self.state is SaveState.CLOSED

    @property
    def deadline_s(self) -> float:
        """When it has to be given up: as the offer says, sooner when all is staged and nobody has opened it."""
        is_unopened = self.state in (SaveState.STAGED, SaveState.OFFERED)
        return min(self._deadline_s, self._open_by_s) if is_unopened else self._deadline_s

    @property
    def lent_slots(self) -> int:
        """Send slots that the worker has not got back."""
        return len(self._lent) + len(self._writing)

    @property
    def queued_bytes(self) -> int:
        """Payload that is wanted and not sent."""
        return sum(frame.piece.length for frame in self._queue)

    @property
    def has_frames(self) -> bool:
        """There is a frame to send."""
        return bool(self._queue)

    def offer(self, secret: str, deadline_s: float, adapter: str = "") -> list[SaveAction]:
        """The engine has the request, and computes it with this adapter."""
        violation = self._step(SaveEvent.OFFER)
        if violation is None:
            self.secret, self._deadline_s, self.adapter = secret, deadline_s, adapter
        return violation or []

    def open(self, handle: int, adapter: str = "", opener: TraceContext | None = None) -> list[SaveAction]:
        """A peer with the right secret opened it under this number; one that computes with another adapter must not
        have it. ``opener`` is its load in a trace."""
        self.handle, self.opener = handle, opener
        violation = self._step(SaveEvent.OPEN)
        if violation is not None:
            return violation
        if adapter != self.adapter:
            ours, theirs = self.adapter or "none", adapter or "none"
            return self.fail(f"the adapters differ: {ours} at the prefill engine, {theirs} at the decode engine")
        return [Send(Accepted(handle))]

    def start(self, start: Start) -> list[SaveAction]:
        """The decode side has blocks: frames may be sent."""
        violation = self._step(SaveEvent.START)
        if violation is not None:
            return violation
        self._held_tokens = start.held_tokens
        staged, self._staged = self._staged, []
        return [TellHeld(start.held_tokens), *self._enqueue(staged), *self._manifest()]

    def stage(self, pieces: Iterable[StagedPiece]) -> list[SaveAction]:
        """The engine lends slots with finished pieces; a piece that was staged before (a preempted request computes
        its rows again) comes back at once."""
        pieces = list(pieces)
        if self.is_over:
            return [FreeSlots(tuple(staged.slot for staged in pieces))]
        self._lent.update(staged.slot for staged in pieces)
        if self._end is not None:
            return self.fail("a piece was staged after the end of the prefill")
        if self.state in (SaveState.STREAMING, SaveState.ENDED):
            return self._enqueue(pieces)
        self._staged += pieces
        return []

    def end(self, num_tokens: int, prefill_end_ns: int, open_by_s: float = math.inf) -> list[SaveAction]:
        """Every piece has been staged; the slots are not kept beyond ``open_by_s`` for a peer that has not come."""
        if self.is_over:
            return []
        if self._end is not None:
            return self.fail("the prefill ended twice")
        self._end = (num_tokens, prefill_end_ns)
        self._open_by_s = open_by_s
        return self._manifest()

    def next_frame(self) -> OutgoingFrame:
        """Take the next frame (only if ``has_frames``); the owner calls ``written`` when the kernel has its bytes."""
        frame = self._queue.popleft()
        self._lent.discard(frame.slot)
        self._writing.add(frame.slot)
        return frame

    def written(self, slot: int) -> list[SaveAction]:
        """The frame in ``slot`` was handed to the kernel entirely, or never will be."""
        self._writing.discard(slot)
        if self.is_over:
            return [FreeSlots((slot,))]
        self._lent.add(slot)
        return []

    def resend(self, frame: OutgoingFrame) -> list[SaveAction]:
        """A frame that was written did not arrive, or not as it was sent; of several, tell the last one first."""
        if self.is_over:
            return []
        if frame.sends >= MAX_SENDS:
            return self.fail(f"frame {frame.sequence} did not arrive in {MAX_SENDS} attempts")
        self._queue.appendleft(replace(frame, sends=frame.sends + 1))
        return []

    def acknowledged(self, slot: int) -> list[SaveAction]:
        """The decode side has verified the frame in ``slot``."""
        if slot not in self._lent:
            return []
        self._lent.discard(slot)
        return [FreeSlots((slot,))]

    def done(self) -> list[SaveAction]:
        """The decode side has verified the manifest."""
        violation = self._step(SaveEvent.DONE)
        return self._closed("") if violation is None else violation

    def fail(self, reason: str, *, tell_peer: bool = True) -> list[SaveAction]:
        """Give up (idempotent)."""
        if self.is_over:
            return []
        tell = tell_peer and self.state not in (SaveState.STAGED, SaveState.OFFERED)
        self.state = TRANSITIONS[self.state, SaveEvent.FAIL]
        abort: list[SaveAction] = [Send(Abort(self.handle, reason))] if tell else []
        return [*abort, *self._closed(reason)]

    def _step(self, event: SaveEvent) -> list[SaveAction] | None:
        """Move on; None when the table allows it, else the actions of the failure."""
        if self.is_over:
            return []
        following = TRANSITIONS.get((self.state, event))
        if following is None:
            return self.fail(f"{event.value} while {self.state.value}")
        self.state = following
        return None

    def _enqueue(self, pieces: list[StagedPiece]) -> list[SaveAction]:
        """Number the pieces that the decode side wants; give the others' slots back."""
        unwanted: list[int] = []
        for staged in pieces:
            piece = staged.piece
            is_rows = piece.part == Part.KV
            end = piece.first + (piece.count if is_rows else piece.length)
            key = (piece.layer, int(piece.part), piece.index)
            runs = self._ranges.get(key)
            if runs is None:
                runs = self._ranges[key] = RangeSet()
            if (is_rows and end <= self._held_tokens) or runs.covers(piece.first, end):
                unwanted.append(staged.slot)
                continue
            if not runs.add(piece.first, end):
                return self.fail(f"layer {piece.layer}: {piece.first}..{end} overlaps what was staged before")
            self._queue.append(OutgoingFrame(self, self._frames, piece, staged.slot))
            self._frames += 1
            self._payload_bytes += piece.length
        self._lent.difference_update(unwanted)
        return [FreeSlots(tuple(unwanted))] if unwanted else []

    def _manifest(self) -> list[SaveAction]:
        """Announce all there is, once the prefill has ended and the decode side has started."""
        if self._end is None or self.state is not SaveState.STREAMING:
            return []
        self._step(SaveEvent.MANIFEST)
        entries = tuple(Entry(*key, *run) for key, runs in self._ranges.items() for run in runs.ranges())
        num_tokens, prefill_end_ns = self._end
        return [Send(Manifest(self.handle, num_tokens, self._frames, self._payload_bytes, prefill_end_ns, entries))]

    def _closed(self, reason: str) -> list[SaveAction]:
        slots = tuple(self._lent)
        self._lent.clear()
        self._queue.clear()
        self._staged.clear()
        return [*([FreeSlots(slots)] if slots else []), Close(reason)]
