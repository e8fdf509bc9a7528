"""A save and a load joined by a link that delivers control and data in any order it likes."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from prfaas.types import Part, Piece
from prfaas.wire.actions import Close, Complete, FreeSlots, Lend, LoadAction, SaveAction, Send
from prfaas.wire.control import Abort, Accepted, ControlMessage, Done, Manifest, Start
from prfaas.wire.frame import FrameHeader
from prfaas.wire.load import Load, LoadState
from prfaas.wire.save import Save, SaveState, StagedPiece

TOKENS, ROWS = 40, 16
RUNS = [(first, min(ROWS, TOKENS - first)) for first in range(0, TOKENS, ROWS)]
PIECES = [Piece(layer, Part.KV, 0, first, count, 64) for first, count in RUNS for layer in (0, 1)]
PIECES += [Piece(2, Part.STATE, index, 0, 0, 32) for index in (0, 1)]


class Link:
    """Carries actions between one save and one load. Each control direction keeps order; frames do not."""

    def __init__(self, chaos: random.Random) -> None:
        self.chaos = chaos
        self.save, self.load = Save("t", 9.0), Load("t", 1, layers=3, opened_s=0.0, deadline_s=9.0)
        self.to_save: list[ControlMessage] = []
        self.to_load: list[ControlMessage] = []
        self.frames: list[FrameHeader] = []
        self.lent: list[Piece] = []
        self.freed: list[int] = []
        self.ends: list[LoadAction | SaveAction] = []

    def do_load(self, actions: list[LoadAction]) -> None:
        for action in actions:
            match action:
                case Send(message):
                    self.to_save.append(message)
                case Lend(piece):
                    self.lent.append(piece)
                case Complete() | Close():
                    self.ends.append(action)

    def do_save(self, actions: list[SaveAction]) -> None:
        for action in actions:
            match action:
                case Send(message):
                    self.to_load.append(message)
                case FreeSlots(slots):
                    self.freed += slots

    def choices(self) -> list[str]:
        """What can happen next."""
        waiting = {"save": self.to_save, "load": self.to_load, "frame": self.frames, "send": self.save.has_frames}
        return [name for name, is_possible in waiting.items() if is_possible]

    def step(self, choice: str) -> None:
        if choice == "send":
            frame = self.save.next_frame()
            self.frames.append(FrameHeader(1, 5, frame.sequence, 0, frame.piece))
            if self.chaos.random() < 0.2:
                self.frames.append(self.frames[-1])
            self.do_save(self.save.written(frame.slot))
        elif choice == "frame":
            header = self.frames.pop(self.chaos.randrange(len(self.frames)))
            self.do_load(self.load.frame(header, 0, 5, 1.0))
        elif choice == "save":
            self.save_hears(self.to_save.pop(0))
        else:
            self.load_hears(self.to_load.pop(0))

    def save_hears(self, message: ControlMessage) -> None:
        match message:
            case Start():
                self.do_save(self.save.start(message))
            case Done():
                self.do_save(self.save.done())
            case Abort(reason=reason):
                self.do_save(self.save.fail(reason, tell_peer=False))

    def load_hears(self, message: ControlMessage) -> None:
        match message:
            case Accepted():
                self.do_load(self.load.accepted())
            case Manifest():
                self.do_load(self.load.manifest(message, 0.0))
            case Abort(reason=reason):
                self.do_load(self.load.fail(reason, tell_peer=False))


def engine_steps(link: Link, held: int) -> list[object]:
    """What the two engines do, as calls that may interleave with the network at will."""
    pieces = PIECES.copy()
    link.chaos.shuffle(pieces)
    stage = [lambda s=slot, p=p: link.do_save(link.save.stage([StagedPiece(p, s)])) for slot, p in enumerate(pieces)]
    return [*stage, lambda: link.do_save(link.save.end(TOKENS, 5)), lambda: link.do_load(link.load.start(held, TOKENS))]


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(0, TOKENS))
def test_any_order_of_events_completes_with_exactly_the_wanted_pieces(seed: int, held: int) -> None:
    """Whatever overtakes whatever, and repeated frames included: every wanted piece once, every slot home."""
    link = Link(random.Random(seed))
    link.save.offer("s", 9.0)
    link.do_save(link.save.open(1))
    calls = engine_steps(link, held)
    start = calls.pop()
    calls.insert(link.chaos.randrange(len(calls) + 1), start)
    while calls or link.choices():
        choices = link.choices() + ["engine"] * bool(calls)
        choice = link.chaos.choice(choices)
        if choice == "engine":
            calls.pop(0)()  # type: ignore[operator]
        else:
            link.step(choice)
    wanted = [p for p in PIECES if p.part == Part.STATE or p.first + p.count > held]
    assert sorted(link.lent, key=repr) == sorted(wanted, key=repr)
    assert link.load.state is LoadState.COMPLETE
    assert link.save.state is SaveState.CLOSED
    assert sorted(link.freed) == list(range(len(PIECES)))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 1 << 30))
def test_a_failure_at_any_moment_frees_every_slot_once(seed: int) -> None:
    """One side gives up somewhere: both end, every slot comes home exactly once and nothing is lent afterwards."""
    link = Link(random.Random(seed))
    link.save.offer("s", 9.0)
    link.do_save(link.save.open(1))
    calls = engine_steps(link, 0)
    start = calls.pop()
    calls.insert(link.chaos.randrange(len(calls) + 1), start)
    fail = link.chaos.choice([lambda: link.do_save(link.save.fail("x")), lambda: link.do_load(link.load.fail("x"))])
    calls.insert(link.chaos.randrange(len(calls) + 1), fail)
    while calls or link.choices():
        choice = link.chaos.choice(link.choices() + ["engine"] * bool(calls))
        if choice == "engine":
            calls.pop(0)()  # type: ignore[operator]
        else:
            link.step(choice)
    assert link.load.is_over
    assert link.save.is_over
    assert sorted(link.freed) == list(range(len(PIECES)))
    assert sum(isinstance(end, Close) for end in link.ends) == 1
