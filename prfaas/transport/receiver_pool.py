"""All data connections of one session with a prefill engine, and the frames that arrive on them."""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from prfaas.errors import TransferFailed
from prfaas.transport.data_receiver import DataReceiver
from prfaas.transport.data_socket import DataConnection
from prfaas.transport.outbox import Outbox
from prfaas.transport.receive_arena import ReceiveArena
from prfaas.transport.settings import MoverConfig
from prfaas.wire.control import Ack, Lost, Nack
from prfaas.wire.credit import Account
from prfaas.wire.frame import FrameHeader

ACK_FRAMES = 32
ACK_DELAY_S = 0.005
"""An ack is sent after so many frames or so long: a message costs both sides 0.2 ms, the wait holds 20 MB of send slots
at 4 GB/s."""
REDIAL_FIRST_S, REDIAL_LAST_S = 0.05, 2.0
"""Pause before a lost data connection is opened again; doubles as long as nothing arrives."""

log = logging.getLogger(__name__)


class FrameTaker(Protocol):
    """Whose frames they are."""

    def is_wanted(self, handle: int) -> bool:
        """Whether frames of this transfer may still come."""

    def arrived(self, header: FrameHeader, slot: int) -> None:
        """A verified frame of a wanted transfer; the slot is the taker's."""

    def burst_end(self) -> None:
        """No more frames for now."""


class ReceiverPool:
    """Keeps as many data connections as the prefill side wants, reads frames into receive slots, answers for them."""

    def __init__(
        self, config: MoverConfig, arena: ReceiveArena, account: Account, outbox: Outbox, taker: FrameTaker
    ) -> None:
        self._config, self._arena, self._account, self._outbox, self._taker = config, arena, account, outbox, taker
        self._loop = asyncio.get_running_loop()
        self._receivers: dict[int, DataReceiver] = {}
        self._last_number = 0
        self._kept = 0
        self._wanted = config.data_connections
        self._more_wanted = asyncio.Event()
        self._unacked_frames = 0
        self._ack_timer: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """No more acks; the connections end with the cancellation of ``stay_connected``."""
        if self._ack_timer is not None:
            self._ack_timer.cancel()

    @property
    def connections(self) -> int:
        """Data connections that are open."""
        return len(self._receivers)

    # connections -----------------------------------------------------------------------------------------------

    async def stay_connected(self, dial: Callable[[int], DataConnection]) -> None:
        """Keep the wanted number of data connections to the peer, until cancelled; ``dial`` opens one."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                while self._kept < self._wanted:
                    self._kept += 1
                    tasks.create_task(self._keep_one(dial))
                self._more_wanted.clear()
                await self._more_wanted.wait()

    def want(self, connections: int) -> None:
        """The prefill side finds that so many connections would be best; surplus ones are not made again when it gives
        them up."""
        self._wanted = max(1, min(connections, self._config.max_connections))
        self._more_wanted.set()

    def hang_up(self, connection: int) -> None:
        """The prefill side has no more use for a connection."""
        if receiver := self._receivers.get(connection):
            receiver.close("the peer gave it up")

    async def _keep_one(self, dial: Callable[[int], DataConnection]) -> None:
        """Keep one connection, until cancelled or no longer wanted."""
        pause_s = REDIAL_FIRST_S
        while self._kept <= self._wanted:
            number = self._last_number = self._last_number + 1
            frames, reason = 0, ""
            try:
                async with dial(number) as stream:
                    receiver = self._receivers[number] = DataReceiver(stream, number, self, self._config.slot_bytes)
                    try:
                        reason = await receiver.run()
                    finally:
                        del self._receivers[number]
                        frames = receiver.frames
            except TransferFailed as error:
                reason = str(error)
            log.warning("data connection %d lost after %d frames: %s", number, frames, reason)
            self._outbox.post(Lost(number, frames))
            pause_s = REDIAL_FIRST_S if frames else min(pause_s * 2, REDIAL_LAST_S)
            await asyncio.sleep(pause_s)
        self._kept -= 1

    # frames ----------------------------------------------------------------------------------------------------

    def slot_for(self, header: FrameHeader) -> int | None:
        """Reserve a slot for a frame of a started load; nobody wants those of loads that are over."""
        if self._taker.is_wanted(header.handle):
            return self._arena.take(self._account, header.round)
        self._arena.budget.spend(self._account, header.round, takes_slot=False)
        return None

    def slot_memory(self, slot: int) -> memoryview:
        """The memory of a slot."""
        return self._arena.memory(slot)

    def frame(self, header: FrameHeader, slot: int | None) -> None:
        """A verified frame."""
        self._unacked_frames += 1
        if slot is not None:
            self._taker.arrived(header, slot)

    def discard(self, header: FrameHeader, slot: int | None) -> None:
        """A frame that never became complete: its credit is the peer's again."""
        if slot is not None:
            self._arena.done(slot)
        self._arena.budget.refund(self._account, header.round)

    def damaged(self, header: FrameHeader, slot: int | None, connection: int, number: int) -> None:
        """A corrupt payload: the peer takes its credit back and sends the frame again, if anyone still wants it."""
        log.warning("frame %d of transfer %d came with a wrong checksum", header.sequence, header.handle)
        self.discard(header, slot)
        self._outbox.post(Nack(connection, number))

    def burst_end(self) -> None:
        """Pass on what came, and see that acks go out."""
        self._taker.burst_end()
        if self._unacked_frames >= ACK_FRAMES:
            self._outbox.wake()
        elif self._unacked_frames and self._ack_timer is None:
            self._ack_timer = self._loop.call_later(ACK_DELAY_S, self._ack_due)

    def acks(self) -> list[Ack]:
        """Acks of all connections that have news; taken by the outbox when it writes."""
        self._unacked_frames = 0
        fresh = [r for r in self._receivers.values() if r.frames > r.acked_frames]
        for receiver in fresh:
            receiver.acked_frames = receiver.frames
        return [Ack(r.connection, r.frames) for r in fresh]

    def _ack_due(self) -> None:
        self._ack_timer = None
        self._outbox.wake()
