"""The worker side between vLLM's hooks and the mover, with a channel that a test fills by hand."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from prfaas.clock import ManualClock
from prfaas.engine.load_worker import LoadWorker
from prfaas.engine.metadata import LoadCancel, LoadStart, SaveStep, StepMetadata
from prfaas.engine.worker_side import WRITE_SHARE, WorkerSide
from prfaas.transport.messages import (
    Arrived,
    FromWorker,
    HeldTokens,
    LoadFailed,
    SlotPiece,
    SlotsDone,
    SlotsFree,
    ToEngine,
)
from prfaas.types import Part
from tests.engine.cache_fixtures import Cache


class Channel:
    """What the mover has sent and not been asked for, and what it has been sent."""

    def __init__(self) -> None:
        self.is_open = True
        self.incoming: list[ToEngine] = []
        self.sent: list[FromWorker] = []

    def poll(self) -> list[ToEngine]:
        messages, self.incoming = self.incoming, []
        return messages

    def send(self, message: FromWorker) -> None:
        self.sent.append(message)


class Rig:
    """A worker side over a small cache, without a mover process."""

    def __init__(self, slots: int = 64) -> None:
        self.clock, self.channel, self.cache = ManualClock(), Channel(), Cache(8, 4, 8, seed=1)
        settings = SimpleNamespace(lease_s=10.0)
        self.side = WorkerSide(cast(Any, settings), cast(Any, None), cast(Any, None), self.clock)
        self.side._mover = cast(Any, SimpleNamespace(channel=self.channel))
        arena = self.cache.states[0].new_zeros((2 * slots, 64))
        self.side._make_roles(self.cache.layout, arena[:slots], arena[slots:])


@pytest.mark.parametrize(("is_decoding", "budget_s"), [(True, WRITE_SHARE * 2.0), (False, float("inf"))])
def test_writing_takes_a_share_of_a_decoding_step(
    monkeypatch: pytest.MonkeyPatch, is_decoding: bool, budget_s: float
) -> None:
    """Arrived pieces hold up others' tokens for a share of the forward pass; where nobody decodes all are written."""
    rig, budgets = Rig(), list[float]()
    monkeypatch.setattr(rig.side.loads, "write", budgets.append)
    rig.side.begin_step(StepMetadata(is_decoding=is_decoding))
    assert budgets == []
    rig.clock.advance(2.0)
    rig.side.load()
    assert budgets == [budget_s]


def test_slots_are_asked_for_within_a_long_forward_pass() -> None:
    """Rows that find no slot leave at a later layer of the same pass; a load's pieces wait for the pass to end."""
    rig = Rig(slots=2)
    rig.channel.incoming = [HeldTokens("t", 0)]
    start = LoadStart("d", "u", 0, 10, 60.0, rig.cache.blocks_for(10, 30))
    step = SaveStep("p", "t", 0, 10, 37, rig.cache.blocks_for(37, 3))
    rig.side.begin_step(StepMetadata(save_steps=[step], load_starts=[start]))
    rig.side.save_layer("layers.1.full")
    before, staged = rig.cache.full.clone(), len(rig.channel.sent)
    rig.channel.incoming = [SlotsFree([0, 1]), Arrived("u", [SlotPiece(1, Part.KV, 0, 0, 1, 12, 0)])]
    rig.side.save_layer("layers.3.window")
    assert len(rig.channel.sent) == staged + 1
    assert torch.equal(rig.cache.full, before)
    rig.side.load()
    assert rig.channel.sent[-1] == SlotsDone([0])
    assert not torch.equal(rig.cache.full, before)


def broken(*_: object) -> None:
    raise RuntimeError("broken on purpose")


def test_a_broken_poll_loses_no_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Orders come once, so they are taken even in a step that cannot hear the mover."""
    rig = Rig()
    start = LoadStart("d", "u", 0, 10, 60.0, rig.cache.blocks_for(10, 30))
    monkeypatch.setattr(rig.channel, "poll", broken)
    rig.side.begin_step(StepMetadata(load_starts=[start]))
    assert not rig.side.loads.is_idle


def test_a_start_that_breaks_fails_its_load_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM hears of the broken one, and the others go on."""
    rig, start_load = Rig(), LoadWorker.start

    def start(worker: LoadWorker, order: LoadStart) -> None:
        broken() if order.request_id == "a" else start_load(worker, order)

    monkeypatch.setattr(LoadWorker, "start", start)
    blocks = rig.cache.blocks_for(10, 30)
    rig.side.begin_step(StepMetadata(load_starts=[LoadStart(name, name, 0, 10, 60.0, blocks) for name in "ab"]))
    results = rig.side.results()
    assert (results.finished_recving, results.failed_recving) == ({"a"}, {"a"})
    assert not rig.side.loads.is_idle


def test_a_message_that_breaks_loses_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the mover has said in the same breath is heard all the same."""
    rig = Rig()
    monkeypatch.setattr(rig.side.saves, "heard", broken)
    rig.channel.incoming = [HeldTokens("t", 0), LoadFailed("u", "corrupt")]
    rig.side.begin_step(StepMetadata(load_starts=[LoadStart("d", "u", 0, 10, 60.0, rig.cache.blocks_for(10, 30))]))
    assert rig.side.results().failed_recving == {"d"}


def test_loads_are_reported_though_saves_break(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two halves of a report do not depend on each other."""
    rig = Rig()
    rig.side.begin_step(StepMetadata(load_cancels=[LoadCancel("d", "u")]))
    monkeypatch.setattr(rig.side.saves, "take_finished", broken)
    assert rig.side.results().finished_recving == {"d"}
