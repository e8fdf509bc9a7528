"""The decode side of a transfer, without sockets."""

import tracemalloc
from dataclasses import replace

import pytest

from prfaas.types import Part, Piece
from prfaas.wire import load as load_module
from prfaas.wire.actions import Close, Complete, FreeSlots, Lend, LoadAction, Send
from prfaas.wire.control import Abort, Done, Entry, Manifest, Open, Start
from prfaas.wire.frame import FrameHeader
from prfaas.wire.load import MAX_FRAMES, TRANSITIONS, Load, LoadEvent, LoadState

EPOCH = 5
ROWS = Piece(0, Part.KV, 0, 0, 16, 100)
MORE_ROWS = Piece(0, Part.KV, 0, 16, 4, 100)
STATE = Piece(1, Part.STATE, 2, 0, 0, 50)
MANIFEST = Manifest(1, 20, 3, 250, 2_010_000_000, (Entry(0, 1, 0, 0, 20), Entry(1, 2, 2, 0, 50)))


def header(sequence: int, piece: Piece, epoch: int = EPOCH) -> FrameHeader:
    return FrameHeader(1, epoch, sequence, 0, piece)


def started() -> Load:
    load = Load("t", 1, layers=2, opened_s=0.0, deadline_s=10.0)
    load.open("secret", 10_000)
    load.accepted()
    load.start(0, 20)
    return load


def streamed() -> Load:
    load = started()
    for sequence, piece in enumerate((ROWS, MORE_ROWS, STATE)):
        load.frame(header(sequence, piece), sequence, EPOCH, now_s=1.0 + sequence)
    return load


def close_reason(actions: list[LoadAction]) -> str:
    (close,) = (action for action in actions if isinstance(action, Close))
    return close.reason


def test_opening_and_starting_tell_the_peer() -> None:
    """Open carries id and secret, Start what is already held."""
    load = Load("t", 1, layers=2, opened_s=0.0, deadline_s=10.0)
    assert load.open("secret", 10_000, "1f2e") == [Send(Open(1, "t", "secret", 10_000, "1f2e"))]
    assert load.start(16, 20) == [Send(Start(1, 16, 20))]


def test_a_manifest_after_all_frames_completes_the_load() -> None:
    """With everything there, the manifest is answered with Done and the load is complete."""
    load = streamed()
    actions = load.manifest(MANIFEST, clock_offset_s=0.0)
    assert actions == [Send(Done(1)), Complete(20, 250, early_bytes=200), Close("")]
    assert load.state is LoadState.COMPLETE
    assert (load.first_s, load.last_s, load.prefilled_s) == (1.0, 3.0, 2.01)


def test_what_has_not_happened_is_told_as_the_opening() -> None:
    """A load that ends before its first frame has no moments of its own."""
    load = Load("t", 1, layers=2, opened_s=4.0, deadline_s=10.0)
    assert (load.first_s, load.last_s, load.prefilled_s) == (4.0, 4.0, 4.0)


def test_a_manifest_before_the_frames_waits_for_them() -> None:
    """The last frame completes the load when the manifest came first, after its piece was lent."""
    load = started()
    assert load.manifest(MANIFEST, 0.0) == []
    load.frame(header(2, STATE), 0, EPOCH, 1.0)
    load.frame(header(1, MORE_ROWS), 1, EPOCH, 1.0)
    actions = load.frame(header(0, ROWS), 2, EPOCH, 1.0)
    assert [type(action) for action in actions] == [Lend, Send, Complete, Close]


def test_frames_may_overtake_accepted() -> None:
    """Accepted travels on another stream than the frames."""
    load = Load("t", 1, layers=2, opened_s=0.0, deadline_s=10.0)
    load.start(0, 20)
    assert load.frame(header(0, ROWS), 7, EPOCH, 0.0) == [Lend(ROWS, 7)]
    assert load.accepted() == []
    assert load.state is LoadState.STREAMING


def test_early_bytes_are_counted_in_the_peers_time() -> None:
    """A peer whose clock is ahead ended its prefill earlier in our time than its number says."""
    (_, complete, _) = streamed().manifest(MANIFEST, clock_offset_s=0.5)
    assert isinstance(complete, Complete)
    assert complete.early_bytes == 100


def test_the_prefills_end_is_told_in_our_time() -> None:
    """The peer's clock is half a second ahead."""
    load = streamed()
    load.manifest(MANIFEST, clock_offset_s=0.5)
    assert load.prefilled_s == pytest.approx(1.51)


@pytest.mark.parametrize(("token_step", "number_step"), [(2, 1), (1, 2)], ids=["rows", "frame numbers"])
def test_gaps_that_no_manifest_could_announce_end_the_load(
    token_step: int, number_step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a load remembers of a hostile peer is bounded."""
    monkeypatch.setattr(load_module, "MAX_RANGES", 8)
    load = started()
    for at in range(8):
        tiny = replace(ROWS, first=at * token_step, count=1, length=1)
        assert not any(isinstance(a, Close) for a in load.frame(header(at * number_step, tiny), at, EPOCH, 1.0))
    tiny = replace(ROWS, first=8 * token_step, count=1, length=1)
    assert "more than 8 ranges" in close_reason(load.frame(header(8 * number_step, tiny), 8, EPOCH, 1.0))


def test_frames_leave_next_to_nothing_behind() -> None:
    """Twenty thousand of one byte each, over the whole time of a load, cost less than 40 bytes each."""
    load = started()
    tracemalloc.start()
    for at in range(20_000):
        tiny = replace(ROWS, first=at, count=1, length=1)
        load.frame(header(at, tiny), 0, EPOCH, now_s=at / 2_000)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 40 * 20_000


def test_a_repeated_frame_is_dropped() -> None:
    """The same frame twice gives its slot back and changes nothing."""
    load = streamed()
    assert load.frame(header(0, ROWS), 9, EPOCH, 5.0) == [FreeSlots((9,))]
    assert close_reason(load.manifest(MANIFEST, 0.0)) == ""


@pytest.mark.parametrize(
    ("sequence", "piece", "epoch"),
    [
        (3, ROWS, EPOCH),
        (3, replace(ROWS, first=12), EPOCH),
        (3, replace(STATE, first=49), EPOCH),
        (0, replace(ROWS, first=64), EPOCH),
        (3, replace(ROWS, first=64, layer=2), EPOCH),
        (3, replace(ROWS, first=64), EPOCH + 1),
        (MAX_FRAMES, replace(ROWS, first=64), EPOCH),
    ],
    ids=["range twice", "overlap", "state overlap", "number twice", "layer", "epoch", "number too high"],
)
def test_a_frame_that_cannot_belong_fails_the_load(sequence: int, piece: Piece, epoch: int) -> None:
    """Its slot is freed, the peer is told and the engine gets a reason."""
    load = streamed()
    actions = load.frame(header(sequence, piece, epoch), 9, EPOCH, 5.0)
    assert actions[0] == FreeSlots((9,))
    assert actions[1:] == [Send(Abort(1, close_reason(actions))), Close(close_reason(actions))]
    assert load.state is LoadState.FAILED


@pytest.mark.parametrize(
    "manifest",
    [
        replace(MANIFEST, num_tokens=19),
        replace(MANIFEST, payload_bytes=251),
        replace(MANIFEST, entries=MANIFEST.entries[:1]),
        replace(MANIFEST, entries=(*MANIFEST.entries, Entry(1, 2, 0, 0, 50))),
        replace(MANIFEST, entries=(Entry(0, 1, 0, 0, 21), MANIFEST.entries[1])),
        replace(MANIFEST, entries=(MANIFEST.entries[0], Entry(0, 2, 2, 0, 50))),
        replace(MANIFEST, frames=2),
    ],
    ids=["tokens", "bytes", "extra tensor", "missing tensor", "missing row", "other layer", "frames"],
)
def test_a_manifest_that_differs_from_what_came_fails_the_load(manifest: Manifest) -> None:
    """Completeness needs every range, every byte and the token count."""
    assert close_reason(streamed().manifest(manifest, 0.0))


def test_a_missing_frame_keeps_the_load_open() -> None:
    """Nothing completes on frames alone or on a manifest that still misses one."""
    load = streamed()
    assert load.manifest(replace(MANIFEST, frames=4, payload_bytes=300), 0.0) == []
    assert not load.is_over


def test_after_the_end_nothing_happens_but_slots_come_back() -> None:
    """A closed load ignores everything and lends nothing."""
    load = streamed()
    load.fail("cancelled")
    assert load.fail("again") == []
    assert load.manifest(MANIFEST, 0.0) == []
    assert load.frame(header(3, replace(ROWS, first=64)), 9, EPOCH, 1.0) == [FreeSlots((9,))]
    assert load.start(0, 1) == []


def test_what_the_table_does_not_allow_fails_the_load() -> None:
    """A frame or a manifest before Start is a violation."""
    load = Load("t", 1, layers=2, opened_s=0.0, deadline_s=10.0)
    assert close_reason(load.frame(header(0, ROWS), 0, EPOCH, 0.0)) == "frame while opening"
    load = Load("t", 1, layers=2, opened_s=0.0, deadline_s=10.0)
    load.accepted()
    assert close_reason(load.manifest(MANIFEST, 0.0)) == "manifest while accepted"


def test_the_table_ends_in_two_states() -> None:
    """Every open state can fail, and nothing leads out of complete and failed."""
    assert {state for state, event in TRANSITIONS if event is LoadEvent.FAIL} == set(LoadState) - {
        LoadState.COMPLETE,
        LoadState.FAILED,
    }
    assert not any(state in (LoadState.COMPLETE, LoadState.FAILED) for state, _ in TRANSITIONS)
