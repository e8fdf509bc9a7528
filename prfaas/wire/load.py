"""The decode side of one transfer, from opening it to the verified manifest.

Rules: frames are taken only after ``Start``. The manifest alone decides completeness: every sequence number once,
the announced bytes, and for every tensor exactly the announced ranges. A repeated frame with nothing new is dropped;
everything else that does not fit fails the transfer, and the engine recomputes. The manifest travels on another
stream than the frames, so it may arrive before, between or after them.
"""

import enum

from prfaas.tracing import TraceContext
from prfaas.types import Part, Piece
from prfaas.wire.actions import Close, Complete, FreeSlots, Lend, LoadAction, Send
from prfaas.wire.control import MAX_ENTRIES, Abort, Done, Manifest, Open, Start
from prfaas.wire.frame import FrameHeader
from prfaas.wire.ranges import RangeSet

MAX_FRAMES = 1 << 20
"""Frames of one transfer: 1 TiB at 1 MiB a slot."""
MAX_RANGES = MAX_ENTRIES
"""Gapless ranges of tensors and of frame numbers: no manifest could announce more, and what has not arrived in between
is far less. Bounds what a load remembers about its frames."""
EARLY_BUCKETS = 8_192
"""Moments that arrivals are told apart by, until the load's deadline: 7 ms of a minute."""


class LoadState(enum.Enum):
    """Where a load stands."""

    OPENING = "opening"
    ACCEPTED = "accepted"
    STARTED = "started"
    STREAMING = "streaming"
    ENDING = "ending"
    COMPLETE = "complete"
    FAILED = "failed"


class LoadEvent(enum.Enum):
    """What can happen to a load."""

    ACCEPTED = "accepted"
    START = "start"
    FRAME = "frame"
    MANIFEST = "manifest"
    VERIFIED = "verified"
    FAIL = "fail"


_OPEN_STATES = tuple(s for s in LoadState if s not in (LoadState.COMPLETE, LoadState.FAILED))

TRANSITIONS: dict[tuple[LoadState, LoadEvent], LoadState] = {
    (LoadState.OPENING, LoadEvent.ACCEPTED): LoadState.ACCEPTED,
    (LoadState.OPENING, LoadEvent.START): LoadState.STARTED,
    (LoadState.ACCEPTED, LoadEvent.START): LoadState.STREAMING,
    (LoadState.STARTED, LoadEvent.ACCEPTED): LoadState.STREAMING,
    (LoadState.STARTED, LoadEvent.FRAME): LoadState.STARTED,
    (LoadState.STREAMING, LoadEvent.FRAME): LoadState.STREAMING,
    (LoadState.STREAMING, LoadEvent.MANIFEST): LoadState.ENDING,
    (LoadState.ENDING, LoadEvent.FRAME): LoadState.ENDING,
    (LoadState.ENDING, LoadEvent.VERIFIED): LoadState.COMPLETE,
    **{(state, LoadEvent.FAIL): LoadState.FAILED for state in _OPEN_STATES},
}
"""Every pair that is not here is a violation and fails the load (or is ignored once it is over). Frames may overtake
``Accepted``, which travels on another stream; ``Manifest`` follows it on the same one."""


_TAKES_FRAMES = tuple(state for state, event in TRANSITIONS if event is LoadEvent.FRAME)
"""Where a frame is no violation; it leaves the state as it is."""


class Load:
    """One transfer as the decode side sees it. Methods return actions for the owner; time is an argument.

    Args:
        transfer_id: the gateway's id.
        handle: the transfer's number in the session.
        layers: length of the layer table; a frame of a layer beyond it is a violation.
        opened_s, deadline_s: when the engine asked for it, and when it fails by itself.

    Attributes:
        first_s, last_s: when the first and the latest frame came; ``opened_s`` before there is one.
        prefilled_s: when the prefill ended, by our clock; ``opened_s`` before the manifest tells.
    """

    def __init__(self, transfer_id: str, handle: int, *, layers: int, opened_s: float, deadline_s: float) -> None:
        self.transfer_id = transfer_id
        self.handle = handle
        self.opened_s = opened_s
        self.deadline_s = deadline_s
        self.state = LoadState.OPENING
        self.held_tokens = self.num_tokens = self.cache_bytes = 0
        self._layers = layers
        self._numbers = RangeSet()
        self._ranges: dict[tuple[int, int, int], RangeSet] = {}
        self._frames = self._runs = 0
        self._bucket_s = max((deadline_s - opened_s) / EARLY_BUCKETS, 1e-6)
        self._arrivals: dict[int, int] = {}
        self._manifest: Manifest | None = None
        self.first_s = self.last_s = self.prefilled_s = opened_s

    @property
    def is_over(self) -> bool:
        """Complete or failed: nothing can happen to it any more."""
        return self.state in (LoadState.COMPLETE, LoadState.FAILED)

    @property
    def is_started(self) -> bool:
        """The prefill side was told to send."""
        return self.state in (LoadState.STARTED, LoadState.STREAMING, LoadState.ENDING)

    def open(
        self, secret: str, timeout_ms: int, adapter: str = "", trace: TraceContext | None = None
    ) -> list[LoadAction]:
        """Ask the prefill side for the transfer."""
        place = trace.fields() if trace else {}
        return [Send(Open(self.handle, self.transfer_id, secret, timeout_ms, adapter, **place))]

    def accepted(self) -> list[LoadAction]:
        """The prefill side's engine has the request."""
        return self._step(LoadEvent.ACCEPTED) or []

    def start(self, held_tokens: int, num_tokens: int) -> list[LoadAction]:
        """The engine has blocks: let data flow."""
        violation = self._step(LoadEvent.START)
        if violation is not None:
            return violation
        self.held_tokens, self.num_tokens = held_tokens, num_tokens
        return [Send(Start(self.handle, held_tokens, num_tokens))]

    def frame(self, header: FrameHeader, slot: int, epoch: int, now_s: float) -> list[LoadAction]:
        """A verified frame lies in ``slot``; ``epoch`` is the session's, ``now_s`` the time of arrival."""
        if self.is_over:
            return [FreeSlots((slot,))]
        if header.epoch == epoch and self._is_repeated(header):
            return [FreeSlots((slot,))]
        objection = self._objection(header, epoch)
        if objection:
            return [FreeSlots((slot,)), *self.fail(objection)]
        if self.state not in _TAKES_FRAMES:
            return [FreeSlots((slot,)), *self.fail(f"{LoadEvent.FRAME.value} while {self.state.value}")]
        self._frames += 1
        self.last_s = now_s
        if self._frames == 1:
            self.first_s = now_s
        bucket = min(EARLY_BUCKETS, max(0, int((now_s - self.opened_s) / self._bucket_s)))
        self._arrivals[bucket] = self._arrivals.get(bucket, 0) + header.piece.length
        self.cache_bytes += header.piece.length
        return [Lend(header.piece, slot), *self._verify()]

    def manifest(self, manifest: Manifest, clock_offset_s: float) -> list[LoadAction]:
        """What must have arrived. ``clock_offset_s`` is the prefill side's clock minus ours."""
        if self.is_over:
            return []
        violation = self._step(LoadEvent.MANIFEST)
        if violation is not None:
            return violation
        if manifest.num_tokens != self.num_tokens:
            return self.fail(f"the peer prefilled {manifest.num_tokens} tokens, {self.num_tokens} were asked for")
        self._manifest = manifest
        self.prefilled_s = manifest.prefill_end_ns / 1e9 - clock_offset_s
        return self._verify()

    def fail(self, reason: str, *, tell_peer: bool = True) -> list[LoadAction]:
        """Give up (idempotent)."""
        if self.is_over:
            return []
        self.state = TRANSITIONS[self.state, LoadEvent.FAIL]
        abort: list[LoadAction] = [Send(Abort(self.handle, reason))] if tell_peer else []
        return [*abort, Close(reason)]

    def _step(self, event: LoadEvent) -> list[LoadAction] | None:
        """Move on; None when the table allows it, else the actions of the failure."""
        if self.is_over:
            return []
        following = TRANSITIONS.get((self.state, event))
        if following is None:
            return self.fail(f"{event.value} while {self.state.value}")
        self.state = following
        return None

    def _is_repeated(self, header: FrameHeader) -> bool:
        """Whether a frame of this number has arrived, and all that this one carries."""
        if not self._numbers.covers(header.sequence, header.sequence + 1):
            return False
        key, end = _place(header.piece)
        return key in self._ranges and self._ranges[key].covers(header.piece.first, end)

    def _objection(self, header: FrameHeader, epoch: int) -> str:
        """Why this frame cannot belong to the transfer; records its range when it can."""
        piece = header.piece
        if header.epoch != epoch:
            return f"frame from epoch {header.epoch:#x}, the session's is {epoch:#x}"
        if piece.layer >= self._layers:
            return f"frame of layer {piece.layer}, the table has {self._layers}"
        if header.sequence >= MAX_FRAMES or not self._numbers.add(header.sequence, header.sequence + 1):
            return f"frame number {header.sequence} is too high or came with two contents"
        key, end = _place(piece)
        runs = self._ranges.get(key)
        if runs is None:
            runs = self._ranges[key] = RangeSet()
        self._runs -= len(runs)
        if not runs.add(piece.first, end):
            return f"layer {piece.layer} part {piece.part.name} {piece.index}: {piece.first}..{end} came twice"
        self._runs += len(runs)
        if max(self._runs, len(self._numbers)) > MAX_RANGES:
            return f"more than {MAX_RANGES} ranges with gaps between them"
        return ""

    def _verify(self) -> list[LoadAction]:
        """Complete the load, or fail it, as soon as the number of frames is the manifest's."""
        manifest = self._manifest
        if manifest is None or self._frames < manifest.frames:
            return []
        announced = {(e.layer, e.part, e.index, e.first, e.end) for e in manifest.entries}
        arrived = {(*key, *run) for key, runs in self._ranges.items() for run in runs.ranges()}
        if announced != arrived or len(announced) != len(manifest.entries):
            return self.fail(f"not what the manifest announced: {_first_difference(announced, arrived)}")
        if self._numbers.ranges() != [(0, manifest.frames)][: manifest.frames]:
            return self.fail(f"{self._frames} frames arrived, not those that the manifest announced")
        if manifest.payload_bytes != self.cache_bytes:
            return self.fail(f"{self.cache_bytes} bytes arrived, the manifest announced {manifest.payload_bytes}")
        self.state = TRANSITIONS[self.state, LoadEvent.VERIFIED]
        # What came in the same moment as the end is not called early.
        ended = int((self.prefilled_s - self.opened_s) / self._bucket_s)
        early = sum(length for bucket, length in self._arrivals.items() if bucket < ended)
        return [Send(Done(self.handle)), Complete(self.num_tokens, self.cache_bytes, early), Close("")]


def _place(piece: Piece) -> tuple[tuple[int, int, int], int]:
    """The tensor that a piece belongs to, and where it ends there."""
    end = piece.first + (piece.count if piece.part == Part.KV else piece.length)
    return (piece.layer, int(piece.part), piece.index), end


_Run = tuple[int, int, int, int, int]


def _first_difference(announced: set[_Run], arrived: set[_Run]) -> str:
    """Name one range that is only on one side."""
    layer, part, index, first, end = min(announced ^ arrived, default=(0, 0, 0, 0, 0))
    return f"layer {layer} part {part} {index}, {first}..{end}"
