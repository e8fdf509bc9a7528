"""The decode side of a mover: every load of this engine, over all prefill engines."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from prfaas.clock import Clock
from prfaas.tracing import NO_TRACER, Tracer
from prfaas.transport.dialed_session import DialedSession
from prfaas.transport.dialer import Dialer
from prfaas.transport.guard import guarded
from prfaas.transport.messages import (
    MAX_PIECES_PER_MESSAGE,
    Arrived,
    Cancel,
    DeclineLoad,
    LoadComplete,
    LoadFailed,
    LoadUsed,
    OpenLoad,
    SlotPiece,
    SlotsDone,
    StartLoad,
    ToScheduler,
    ToWorker,
)
from prfaas.transport.meter import LinkMeter, LinkMeters
from prfaas.transport.receive_arena import ReceiveArena
from prfaas.transport.remote import Remote
from prfaas.transport.report_book import ReportBook
from prfaas.transport.settings import MoverConfig
from prfaas.transport.spans import TransferSpans
from prfaas.transport.staging import Staging
from prfaas.types import Piece, TransferReport
from prfaas.wire.actions import Complete
from prfaas.wire.load import Load
from prfaas.wire.session import Identity

HANDLES = 1 << 32
"""The frame header keeps a handle in 32 bits; by the time one comes again its first load is long over."""
MAX_TIMEOUT_MS = (1 << 32) - 1
"""What the control message holds: 49 days."""
PASS_ON_S = 0.001
"""Workers look once a step, which takes longer: a message for each read would only wake both sides more often. The last
pieces of a load never wait."""
MAX_UNUSED = 1_024
"""Complete loads that the engine has not judged: more than it can have requests."""

log = logging.getLogger(__name__)


class EngineOut(Protocol):
    """Where messages to the engine go."""

    def to_worker(self, message: ToWorker) -> None:
        """To the worker."""

    def to_schedulers(self, message: ToScheduler) -> None:
        """To the scheduler."""


class Loads:
    """Opens transfers on behalf of the engine and tells it what arrives. Owned by the mover's loop.

    Attributes:
        received_bytes: payload bytes lent to the worker.
        completed_loads, failed_loads: loads that are over.
        meters: the links from the prefill engines.
    """

    def __init__(
        self,
        config: MoverConfig,
        us: Identity,
        staging: Staging,
        engine: EngineOut,
        reports: ReportBook,
        clock: Clock,
        dialer: Callable[[str], Dialer],
        tracer: Tracer = NO_TRACER,
    ) -> None:
        self.received_bytes = self.completed_loads = self.failed_loads = 0
        self.arena = ReceiveArena(staging, sessions=len(config.peers))
        self.meters = LinkMeters(is_sending=False, bandwidth_bytes_s=config.link_bandwidth_bytes_s, clock=clock)
        self._config, self._us, self._engine, self._reports, self._clock = config, us, engine, reports, clock
        self._dialer = dialer
        self._spans = TransferSpans(tracer)
        self._remotes: dict[str, Remote] = {}
        self._loads: dict[str, tuple[Load, DialedSession]] = {}
        self._unused: dict[str, tuple[TransferReport, float]] = {}
        self._arrived: dict[str, list[SlotPiece]] = {}
        self._last_handle = 0
        self._passing: asyncio.TimerHandle | None = None
        self._is_closing = False

    @property
    def open_loads(self) -> int:
        """Loads that are not over."""
        return len(self._loads)

    @property
    def open_sessions(self) -> int:
        """Sessions that exist or are being dialed."""
        return sum(remote.session is not None for remote in self._remotes.values())

    # from the engine -------------------------------------------------------------------------------------------

    def open(self, message: OpenLoad) -> None:
        """Open a transfer; a second one with the same id is ignored."""
        if message.transfer_id in self._loads or message.transfer_id in self._unused:
            return
        now_s = self._clock.now_s()
        self._reports.open(message.transfer_id, message.secret)
        handle = self._last_handle = (self._last_handle + 1) % HANDLES
        load = Load(
            message.transfer_id,
            handle,
            layers=len(self._config.fingerprint.layers),
            opened_s=now_s,
            deadline_s=now_s + message.timeout_s,
        )
        self._spans.open("load", message.transfer_id, message.trace, peer=message.remote)
        if self._is_closing:
            self.closed(load, "this engine stops")
            return
        if self._config.dials is not None and message.remote not in self._config.dials:
            self.closed(load, f"{message.remote} is the kv endpoint of no engine that this one may load from")
            return
        remote = self._remote(message.remote)
        session = remote.dial()
        if session is None:
            self.closed(load, f"not dialed again yet after: {remote.reason}")
            return
        self._loads[message.transfer_id] = (load, session)
        timeout_ms = min(max(0, round(message.timeout_s * 1e3)), MAX_TIMEOUT_MS)
        trace = self._spans.context(message.transfer_id)
        session.open(load, message.secret, timeout_ms, message.adapter, trace)

    def decline(self, message: DeclineLoad) -> None:
        """The engine will not load this one; whoever waits for its report hears why."""
        self._reports.open(message.transfer_id, message.secret)
        self._reports.finish(TransferReport(message.transfer_id, ok=False, reason=message.reason))

    def start(self, message: StartLoad) -> None:
        """Let data flow; ignored for a load that is over."""
        if found := self._loads.get(message.transfer_id):
            load, session = found
            self._spans.begin("receive", message.transfer_id, held_tokens=message.held_tokens)
            session.apply(load, load.start(message.held_tokens, message.num_tokens))

    def cancel(self, message: Cancel) -> None:
        """The request is gone; ignored for a load that is over."""
        reason = f"cancelled: {message.reason}"
        if found := self._loads.get(message.transfer_id):
            load, session = found
            session.apply(load, load.fail(reason))
        elif message.transfer_id in self._unused:
            self.used(LoadUsed(message.transfer_id, ok=False, reason=reason))

    def slots_done(self, message: SlotsDone) -> None:
        """The worker has copied these slots out."""
        for slot in message.slots:
            if not self.arena.done(slot):
                log.error("the worker returned receive slot %d twice", slot)
        self.grant()

    def used(self, message: LoadUsed) -> None:
        """The engine's last word on a complete load."""
        found = self._unused.pop(message.transfer_id, None)
        if found is not None:
            report, opened_s = found
            report = replace(report, used_s=self._clock.now_s() - opened_s)
            judged = _judged(report, message.ok, message.reason)
            self._reports.finish(judged)
            sizes = {"tokens": judged.tokens, "cache_bytes": judged.cache_bytes, "early_bytes": judged.early_bytes}
            self._spans.close(message.transfer_id, judged.reason, **sizes)

    # from the sessions -----------------------------------------------------------------------------------------

    def arrived(self, load: Load, piece: Piece, slot: int) -> None:
        """Collect what one read delivered; ``burst_end`` passes it on."""
        self.received_bytes += piece.length
        self._arrived.setdefault(load.transfer_id, []).append(
            SlotPiece(piece.layer, piece.part, piece.index, piece.first, piece.count, piece.length, slot)
        )

    def burst_end(self) -> None:
        """Tell the worker what has arrived, at most once every ``PASS_ON_S``."""
        if self._arrived and self._passing is None:
            self._pass_on()
            self._passing = asyncio.get_running_loop().call_later(PASS_ON_S, self._passed)

    def _passed(self) -> None:
        self._passing = None
        self.burst_end()

    def _pass_on(self) -> None:
        while self._arrived:
            transfer_id, pieces = self._arrived.popitem()
            for at in range(0, len(pieces), MAX_PIECES_PER_MESSAGE):
                self._engine.to_worker(Arrived(transfer_id, pieces[at : at + MAX_PIECES_PER_MESSAGE]))

    def completed(self, load: Load, complete: Complete) -> None:
        """Tell the engine that everything is there, after the last piece."""
        self._pass_on()
        self.completed_loads += 1
        self._spans.end("receive", load.transfer_id)
        self._spans.begin("inject", load.transfer_id)
        report = TransferReport(
            load.transfer_id,
            ok=True,
            tokens=load.num_tokens - load.held_tokens,
            held_tokens=load.held_tokens,
            cache_bytes=complete.cache_bytes,
            early_bytes=complete.early_bytes,
            open_s=self._clock.now_s() - load.opened_s,
        )
        self._unused[load.transfer_id] = _timed(report, load), load.opened_s
        if len(self._unused) > MAX_UNUSED:
            self.used(LoadUsed(next(iter(self._unused)), ok=False, reason="the engine never said"))
        self._tell(LoadComplete(load.transfer_id, complete.num_tokens, complete.cache_bytes, complete.early_bytes))

    def closed(self, load: Load, reason: str) -> None:
        """A load is over."""
        self._loads.pop(load.transfer_id, None)
        if not reason:
            return
        self._pass_on()
        self.failed_loads += 1
        log.warning("load %s failed: %s", load.transfer_id, reason, extra={"transfer_id": load.transfer_id})
        self._spans.close(load.transfer_id, reason, cache_bytes=load.cache_bytes)
        self._tell(LoadFailed(load.transfer_id, reason))
        report = TransferReport(load.transfer_id, ok=False, reason=reason, cache_bytes=load.cache_bytes)
        self._reports.finish(_timed(report, load))

    def meter(self, peer: str) -> LinkMeter:
        """The meter of the link from a prefill engine."""
        return self.meters.of(peer)

    def grant(self) -> None:
        """Give out the credit that is due."""
        for account, frames in self.arena.grants():
            for remote in self._remotes.values():
                if remote.session is not None and remote.session.account is account:
                    remote.session.credit(frames)

    # time ------------------------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        """Fail loads whose deadline has passed, and keep the configured peers connected."""
        for load, session in list(self._loads.values()):
            if load.deadline_s <= now_s:
                with guarded(f"load {load.transfer_id}"):
                    session.apply(load, load.fail("not complete within its time"))
        for peer in self._config.peers:
            with guarded(f"dialing {peer}"):
                self._remote(peer).dial()

    async def aclose(self) -> None:
        """End all sessions; none begins after that."""
        self._is_closing = True
        if self._passing is not None:
            self._passing.cancel()
        await asyncio.gather(*(remote.aclose() for remote in self._remotes.values()))

    def _remote(self, address: str) -> Remote:
        if address not in self._remotes:
            dialer = self._dialer(address)
            self._remotes[address] = Remote(dialer, self._config, self._us, self.arena, self, self._clock)
        return self._remotes[address]

    def _tell(self, message: LoadComplete | LoadFailed) -> None:
        self._engine.to_worker(message)
        self._engine.to_schedulers(message)


def _timed(report: TransferReport, load: Load) -> TransferReport:
    """The report with what happened when, as far as it did."""
    since_s = load.opened_s
    return replace(
        report,
        prefilled_s=max(0.0, load.prefilled_s - since_s),
        first_s=load.first_s - since_s,
        last_s=load.last_s - since_s,
    )


def _judged(report: TransferReport, ok: bool, reason: str) -> TransferReport:
    """A complete load's report after the engine's word on it: what was not used does not count."""
    if ok:
        return report
    return replace(report, ok=False, reason=reason or "the engine did not use it", tokens=0, early_bytes=0)
