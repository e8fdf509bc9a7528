"""Two real movers and a small engine in place of vLLM's processes, for the tests of the transport."""

import asyncio
import random
import select
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from prfaas.transport.channel import EngineChannel
from prfaas.transport.messages import (
    Arrived,
    LoadComplete,
    LoadFailed,
    OfferSave,
    OpenLoad,
    SaveEnd,
    SlotPiece,
    SlotsDone,
    SlotsFree,
    Staged,
    StartLoad,
    ToEngine,
)
from prfaas.transport.process import MoverConfig, MoverProcess
from prfaas.transport.report import ReportClient
from prfaas.types import Fingerprint, MoverStatistics, Part
from tests.exact import assert_equal
from tests.transport.site_certificates import NAMES, settings

T = TypeVar("T")
Pieces = list[tuple[SlotPiece, bytes]]
SLOT_BYTES = 64 << 10
PATIENCE_S = 30.0
"""Bound of every wait in these tests; never reached by a test that passes."""

CONFIG = MoverConfig(
    engine_id="engine",
    epoch=1,
    fingerprint=Fingerprint({"model": "tiny", "block_size": "16"}, ("layer.0", "layer.1", "layer.2", "layer.3")),
    listen="127.0.0.1:0",
    advertise_host=None,
    peers=(),
    slot_bytes=SLOT_BYTES,
    send_slots=64,
    receive_slots=64,
    heartbeat_s=0.2,
    lease_s=10.0,
    offer_wait_s=5.0,
)
"""A machine that holds a mover up for some seconds breaks nothing; tests of leases have a ``SHORT_LEASE_S``."""
SHORT_LEASE_S = 2.0


class TinyEngine:
    """Scheduler and worker of one engine around a real mover process.

    Attributes:
        free_send: send slots that the worker may write.
        payloads: received bytes by transfer id, keyed (layer, part, index, first).
        worker_heard, scheduler_heard: everything the mover said, in order.
        returns_slots: whether arrived pieces are copied out at once; else they stay in ``lent``.
    """

    def __init__(self, name: str, **changes: object) -> None:
        named: dict[str, object] = {"engine_id": name, "epoch": random.getrandbits(32), **changes}
        self.config = replace(CONFIG, **named)  # type: ignore[arg-type]
        self.mover = MoverProcess.spawn(self.config)
        self.scheduler = EngineChannel.connect(self.mover.socket_path)
        self.free_send = list(range(self.mover.staging.send_slots))
        self.payloads: dict[str, dict[tuple[int, int, int, int], bytes]] = {}
        self.worker_heard: list[ToEngine] = []
        self.scheduler_heard: list[ToEngine] = []
        self.returns_slots = True
        self.lent: list[int] = []

    def close(self) -> None:
        self.scheduler.close()
        self.mover.close()

    def poll(self) -> None:
        """Take in what the mover said; copy arrived pieces out of their slots."""
        self.scheduler_heard += self.scheduler.poll()
        for message in self.mover.channel.poll():
            self.worker_heard.append(message)
            if isinstance(message, SlotsFree):
                self.free_send += message.slots
            elif isinstance(message, Arrived):
                self._arrived(message)

    def _arrived(self, message: Arrived) -> None:
        for p in message.pieces:
            data = bytes(self.mover.staging.receive_slot(p.slot)[: p.length])
            self.payloads.setdefault(message.transfer_id, {})[p.layer, p.part, p.index, p.first] = data
            self.lent.append(p.slot)
        if self.returns_slots:
            self.return_slots()

    def return_slots(self) -> None:
        """Give copied slots back."""
        slots, self.lent = self.lent, []
        self.mover.channel.send(SlotsDone(slots))

    def stage(self, transfer_id: str, pieces: Pieces, wait: Callable[[], None]) -> None:
        """Write pieces into free send slots and lend them; ``wait`` is called while none is free."""
        for piece, data in pieces:
            while not self.free_send:
                wait()
            slot = self.free_send.pop()
            self.mover.staging.send_slot(slot)[: len(data)] = data
            self.mover.channel.send(Staged(transfer_id, [replace_slot(piece, slot)]))


def replace_slot(p: SlotPiece, slot: int) -> SlotPiece:
    return SlotPiece(p.layer, p.part, p.index, p.first, p.count, p.length, slot)


class Pair:
    """A prefill and a decode engine that may dial it."""

    def __init__(self, prefill: TinyEngine, decode: TinyEngine, remote: str | None = None) -> None:
        self.prefill, self.decode = prefill, decode
        self.remote = remote or prefill.mover.listen

    def poll(self) -> None:
        """Wait a little for either mover to say something and take it in."""
        channels = [c for e in (self.prefill, self.decode) for c in (e.mover.channel, e.scheduler) if c.is_open]
        select.select(channels, [], [], 0.02)
        self.prefill.poll()
        self.decode.poll()

    def until(self, condition: Callable[[], T], patience_s: float = PATIENCE_S) -> T:
        """Poll until the condition holds and return its value."""
        deadline_s = time.monotonic() + patience_s
        while not (value := condition()):
            assert time.monotonic() < deadline_s, "waited in vain"
            self.poll()
        return value

    def settle(self) -> None:
        """Wait until no transfer is open and every slot is home on both sides."""
        for engine in (self.prefill, self.decode):
            engine.returns_slots = True
            engine.return_slots()
        self.until(self.is_settled)

    def is_settled(self) -> bool:
        prefill, decode = statistics_of(self.prefill), statistics_of(self.decode)
        return (
            sorted(self.prefill.free_send) == list(range(self.prefill.mover.staging.send_slots))
            and (prefill.open_saves, prefill.lent_send_slots) == (0, 0)
            and (decode.open_loads, decode.lent_receive_slots) == (0, 0)
        )

    def open(self, transfer_id: str, *, secret: str = "secret", timeout_s: float = 30.0) -> None:
        self.prefill.scheduler.send(OfferSave(transfer_id, secret, 0, timeout_s))
        self.decode.scheduler.send(OpenLoad(transfer_id, secret, self.remote, timeout_s))

    def start(self, transfer_id: str, held_tokens: int, num_tokens: int) -> None:
        self.decode.scheduler.send(StartLoad(transfer_id, held_tokens, num_tokens))

    def end(self, transfer_id: str, num_tokens: int) -> None:
        self.prefill.mover.channel.send(SaveEnd(transfer_id, num_tokens, time.monotonic()))

    def outcome(self, transfer_id: str) -> LoadComplete | LoadFailed:
        """Wait for the load's end."""
        outcome = self.until(lambda: outcome_of(self.decode.worker_heard, transfer_id))
        assert outcome is not None
        return outcome

    def move(self, transfer_id: str, pieces: Pieces, num_tokens: int, held: int = 0) -> LoadComplete | LoadFailed:
        """One whole transfer."""
        self.open(transfer_id)
        self.start(transfer_id, held, num_tokens)
        self.prefill.stage(transfer_id, pieces, self.poll)
        self.end(transfer_id, num_tokens)
        return self.outcome(transfer_id)


def outcome_of(heard: list[ToEngine], transfer_id: str) -> LoadComplete | LoadFailed | None:
    for message in heard:
        if isinstance(message, LoadComplete | LoadFailed) and message.transfer_id == transfer_id:
            return message
    return None


def rows(num_tokens: int, *, layers: int = 4, per_piece: int = 16, row_bytes: int = 1024, seed: int = 1) -> Pieces:
    """Attention rows and one piece of recurrent state per layer, with random contents."""
    source = random.Random(seed)
    pieces: Pieces = []
    for first in range(0, num_tokens, per_piece):
        count = min(per_piece, num_tokens - first)
        for layer in range(layers):
            data = source.randbytes(per_piece * row_bytes)
            pieces.append((SlotPiece(layer, Part.KV, 0, first, count, len(data), -1), data))
    for layer in range(layers):
        data = source.randbytes(3000)
        pieces.append((SlotPiece(layer, Part.STATE, 0, 0, 0, len(data), -1), data))
    return pieces


def full_slots(size_bytes: int) -> Pieces:
    """Rows of one layer in pieces that fill a slot each, all different."""
    data = random.Random(1).randbytes(SLOT_BYTES)
    return [
        (SlotPiece(0, Part.KV, 0, 16 * i, 16, SLOT_BYTES, -1), i.to_bytes(4, "big") + data[4:])
        for i in range(size_bytes // SLOT_BYTES)
    ]


def check_arrived(engine: TinyEngine, transfer_id: str, pieces: Pieces) -> None:
    """Raises Inexact unless the bytes of these pieces have arrived, and nothing else. Then they are forgotten."""
    found = engine.payloads.pop(transfer_id, {})
    expected = {(p.layer, p.part, p.index, p.first): data for p, data in pieces}
    assert_equal(sorted(found), sorted(expected))
    assert_equal([place for place, data in expected.items() if found[place] != data], [])


def report_client(*engines: TinyEngine) -> ReportClient:
    """A client as the gateway's, which is at the decode site: with that site's certificate if the engines want one."""
    tls = engines[0].config.tls
    if tls is None:
        return ReportClient()
    names = {engine.mover.listen: NAMES[engine.config.engine_id] for engine in engines}
    return ReportClient(settings(Path(tls.ca).parent, "edge", names))


def statistics_of(engine: TinyEngine) -> MoverStatistics:
    """The mover's figures, asked over the network as the gateway does."""

    async def ask() -> MoverStatistics:
        client = report_client(engine)
        try:
            return await client.statistics(engine.mover.listen)
        finally:
            await client.aclose()

    return asyncio.run(ask())
