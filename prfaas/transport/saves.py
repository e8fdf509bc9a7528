"""The prefill side of a mover: every save of this engine, over all decode engines."""

import logging
from collections import Counter
from collections.abc import Iterable

from prfaas.clock import Clock
from prfaas.tracing import NO_TRACER, Tracer
from prfaas.transport.accepted_session import AcceptedSession
from prfaas.transport.guard import guarded
from prfaas.transport.loads import EngineOut
from prfaas.transport.messages import (
    MAX_SLOTS_PER_MESSAGE,
    Cancel,
    HeldTokens,
    OfferSave,
    SaveClosed,
    SaveEnd,
    SlotPiece,
    SlotsFree,
    Staged,
)
from prfaas.transport.meter import LinkMeter, LinkMeters
from prfaas.transport.settings import MoverConfig
from prfaas.transport.spans import TransferSpans
from prfaas.transport.staging import Staging
from prfaas.types import Part, Piece
from prfaas.wire.actions import Close, FreeSlots, SaveAction, Send, TellHeld
from prfaas.wire.control import Abort, Open, Start
from prfaas.wire.doorway import UNKNOWN_TRANSFER, Doorway, secrets_equal
from prfaas.wire.frame import piece_objection
from prfaas.wire.pace import Pace
from prfaas.wire.save import Save, SaveState, StagedPiece
from prfaas.wire.session import Session

MAX_CLOSED = 1_024
"""Closed saves that are remembered: pieces staged before the worker heard of the end come back at once, and a peer
that opens one too late hears why it ended instead of waiting for an offer."""

MAX_WAITING_SESSIONS = 64
"""Sessions whose control stream broke: more than an engine has peers; beyond it one makes room."""

log = logging.getLogger(__name__)


class Saves:
    """Offers, stages and closes transfers on behalf of the engine. Owned by the mover's loop.

    Attributes:
        sessions: accepted sessions.
        completed_saves, failed_saves: saves that are over.
        meters: the links to the decode engines.
    """

    def __init__(
        self, config: MoverConfig, staging: Staging, engine: EngineOut, clock: Clock, tracer: Tracer = NO_TRACER
    ) -> None:
        self.sessions: list[AcceptedSession] = []
        self.completed_saves = self.failed_saves = 0
        self.meters = LinkMeters(is_sending=True, bandwidth_bytes_s=config.link_bandwidth_bytes_s, clock=clock)
        self._config, self._staging, self._engine, self._clock = config, staging, engine, clock
        self._spans = TransferSpans(tracer)
        self._saves: dict[str, Save] = {}
        self._closed: dict[str, tuple[str, str]] = {}
        self._owners: dict[str, AcceptedSession] = {}
        self._doorway: Doorway[AcceptedSession] = Doorway()
        self._no_limit = Pace(0.0, clock.now_s())
        slowest_bytes_s = min((limit.bytes_s for limit in config.rate_limits if limit.bytes_s), default=0.0)
        self._strangers_pace = Pace(slowest_bytes_s, clock.now_s())
        self._paces: dict[str, Pace] = {}
        for limit in config.rate_limits:
            self._paces |= dict.fromkeys(limit.peers, Pace(limit.bytes_s, clock.now_s()))
        self._free: list[int] = []
        self._sent_bytes = self._resent_bytes = 0

    @property
    def open_saves(self) -> int:
        """Saves that are not over."""
        return len(self._saves)

    @property
    def lent_slots(self) -> int:
        """Send slots of open saves that the worker has not got back."""
        return sum(save.lent_slots for save in self._saves.values())

    @property
    def sent_bytes(self) -> int:
        """Payload bytes handed to sockets."""
        return self._sent_bytes + sum(session.senders.sent_bytes for session in self.sessions)

    @property
    def resent_bytes(self) -> int:
        """Of these, bytes that had not arrived the first time."""
        return self._resent_bytes + sum(session.senders.resent_bytes for session in self.sessions)

    # from the engine -------------------------------------------------------------------------------------------

    def offer(self, message: OfferSave) -> None:
        """The engine has the request; a decode engine may be waiting for it."""
        save = self._save(message.transfer_id)
        if save.state is not SaveState.STAGED:
            return
        self._spans.open("save", message.transfer_id, message.trace, tokens=message.num_tokens)
        self._do(save, save.offer(message.secret, self._clock.now_s() + message.timeout_s, message.adapter))
        if opener := self._doorway.admit(message.transfer_id, message.secret):
            self._bind(save, opener.session, opener.open, opener.start)

    def stage(self, message: Staged) -> None:
        """The worker lends slots with finished pieces."""
        if message.transfer_id in self._closed:
            self._engine.to_worker(SlotsFree([piece.slot for piece in message.pieces]))
            return
        save = self._save(message.transfer_id)
        try:
            pieces = [_staged(piece) for piece in message.pieces]
        except ValueError as error:
            self._free += [piece.slot for piece in message.pieces]
            self._do(save, save.fail(f"the worker staged something unknown: {error}"))
            return
        self._spans.begin("stage", message.transfer_id)
        actions = save.stage(pieces)
        for staged in pieces:
            if objection := self._objection(staged):
                actions = [*actions, *save.fail(objection)]
        self._do(save, actions)

    def end(self, message: SaveEnd) -> None:
        """The prefill is over and everything is staged."""
        if message.transfer_id not in self._closed:
            save = self._save(message.transfer_id)
            open_by_s = self._clock.now_s() + self._config.lease_s
            self._spans.end("stage", message.transfer_id)
            self._do(save, save.end(message.num_tokens, round(message.prefill_end_s * 1e9), open_by_s))

    def cancel(self, message: Cancel) -> None:
        """The request is gone; of a transfer that was never heard of, pieces may still be on their way."""
        reason = f"cancelled: {message.reason}"
        if save := self._saves.get(message.transfer_id):
            self._do(save, save.fail(reason))
        else:
            self._remember(message.transfer_id, "", reason)

    # from the sessions -----------------------------------------------------------------------------------------

    def accept(self, token: bytes, host: str) -> AcceptedSession:
        """A decode engine has connected from ``host``; ``token`` is what only its session's two ends know."""
        self._make_room()
        session = AcceptedSession(
            token,
            host,
            self._config,
            self._staging.send_slot,
            self,
            Session(
                dialed=False,
                lease_s=self._config.lease_s,
                heartbeat_s=self._config.heartbeat_s,
                now_s=self._clock.now_s(),
            ),
            self._clock,
        )
        self.sessions.append(session)
        return session

    def _make_room(self) -> None:
        """At the limit end the oldest waiting session of the host that has most: a host only crowds out itself."""
        while len(waiting := [session for session in self.sessions if session.stream is None]) >= MAX_WAITING_SESSIONS:
            ((host, _),) = Counter(session.host for session in waiting).most_common(1)
            oldest = next(session for session in waiting if session.host == host)
            self.gone(oldest, f"decode engine {oldest.peer_id}: too many sessions wait for a control stream")

    def meter(self, peer: str) -> LinkMeter:
        """The meter of the link to a decode engine."""
        return self.meters.of(peer)

    def pace(self, peer: str) -> Pace:
        """How fast cache bytes may leave for a decode engine; engines of one link share it."""
        return self._paces.get(peer, self._no_limit)

    def probe_pace(self, peer: str) -> Pace:
        """How fast noise may leave on behalf of a decode engine. The name is its caller's word alone: whom no limit
        names gets the smallest of them, in a bucket of its own."""
        return self._paces.get(peer, self._strangers_pace)

    def gone(self, session: AcceptedSession, reason: str) -> None:
        """A session is over."""
        self.sessions.remove(session)
        self._doorway.leave_all(session)
        session.lost(reason)
        self._sent_bytes += session.senders.sent_bytes
        self._resent_bytes += session.senders.resent_bytes

    def opened(self, session: AcceptedSession, message: Open) -> None:
        """Bind the peer to its save, or let it wait for one; both wait that do not know the secret."""
        save = self._saves.get(message.transfer_id)
        if save and save.state is SaveState.OFFERED and secrets_equal(save.secret, message.secret):
            self._bind(save, session, message, None)
            return
        secret, reason = self._closed.get(message.transfer_id, ("", ""))
        if secrets_equal(secret, message.secret):
            session.outbox.post(Abort(message.handle, reason or "the transfer is over"))
            return
        deadline_s = self._clock.now_s() + min(self._config.offer_wait_s, message.timeout_ms / 1e3)
        if not self._doorway.wait(session, message, deadline_s):
            session.outbox.post(Abort(message.handle, UNKNOWN_TRANSFER))

    def started(self, session: AcceptedSession, message: Start) -> None:
        """The peer starts while it still waits."""
        self._doorway.start(session, message)

    def left(self, session: AcceptedSession, handle: int) -> None:
        """The peer gave up waiting."""
        self._doorway.leave(session, handle)

    def apply(self, save: Save, actions: Iterable[SaveAction]) -> None:
        """Do what a save wants done; freed slots are collected until ``flush``."""
        for action in actions:
            match action:
                case Send(message):
                    self._owners[save.transfer_id].outbox.post(message)
                case TellHeld(held_tokens):
                    self._spans.begin("send", save.transfer_id, save.opener, held_tokens=held_tokens)
                    self._engine.to_worker(HeldTokens(save.transfer_id, held_tokens))
                case FreeSlots(slots):
                    self._free += slots
                case Close(reason):
                    self._close(save, reason)

    def flush(self) -> None:
        """Give freed slots back to the worker."""
        free, self._free = self._free, []
        for at in range(0, len(free), MAX_SLOTS_PER_MESSAGE):
            self._engine.to_worker(SlotsFree(free[at : at + MAX_SLOTS_PER_MESSAGE]))

    # time ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """The mover stops."""
        for session in list(self.sessions):
            self.gone(session, "the prefill engine stops")
            if session.stream is not None:
                session.stream.cancel()

    def tick(self, now_s: float) -> None:
        """Fail what has waited too long."""
        for save in list(self._saves.values()):
            if save.deadline_s <= now_s:
                with guarded(f"save {save.transfer_id}"):
                    self._do(save, save.fail("not finished within its time"))
        for session in list(self.sessions):
            if session.is_left(now_s):
                with guarded(f"the session of {session.peer_id}"):
                    self.gone(session, f"decode engine {session.peer_id}: its control stream broke, and no other came")
        for opener in self._doorway.expired(now_s):
            opener.session.outbox.post(Abort(opener.open.handle, UNKNOWN_TRANSFER))
        self.flush()

    def _objection(self, staged: StagedPiece) -> str:
        """Why the worker cannot mean this piece; empty when it can."""
        if not 0 <= staged.slot < self._config.send_slots:
            return f"send slot {staged.slot} of {self._config.send_slots}"
        if staged.piece.layer >= len(self._config.fingerprint.layers):
            return f"layer {staged.piece.layer} of {len(self._config.fingerprint.layers)}"
        return piece_objection(staged.piece, self._config.slot_bytes)

    def _save(self, transfer_id: str) -> Save:
        """The save of this id, made when it is new; an offer may reuse the id of a closed one."""
        save = self._saves.get(transfer_id)
        if save is None:
            self._closed.pop(transfer_id, None)
            save = self._saves[transfer_id] = Save(transfer_id, self._clock.now_s() + self._config.offer_wait_s)
        return save

    def _bind(self, save: Save, session: AcceptedSession, message: Open, start: Start | None) -> None:
        self._owners[save.transfer_id] = session
        session.bind(save, message)
        if start is not None and not save.is_over:
            session.start(save, start)
        self.flush()
        session.senders.pump()

    def _do(self, save: Save, actions: Iterable[SaveAction]) -> None:
        """Apply what an engine message led to, and send what it made possible."""
        self.apply(save, actions)
        self.flush()
        if session := self._owners.get(save.transfer_id):
            session.senders.has_frames(save)
            session.senders.pump()
            self.flush()

    def _close(self, save: Save, reason: str) -> None:
        self.flush()
        del self._saves[save.transfer_id]
        if session := self._owners.pop(save.transfer_id, None):
            session.unbind(save)
        self._remember(save.transfer_id, save.secret, reason)
        if reason:
            self.failed_saves += 1
            log.warning("save %s failed: %s", save.transfer_id, reason, extra={"transfer_id": save.transfer_id})
        else:
            self.completed_saves += 1
        self._spans.close(save.transfer_id, reason)
        self._engine.to_worker(SaveClosed(save.transfer_id, reason))

    def _remember(self, transfer_id: str, secret: str, reason: str) -> None:
        self._closed[transfer_id] = (secret, reason)
        while len(self._closed) > MAX_CLOSED:
            del self._closed[next(iter(self._closed))]


def _staged(piece: SlotPiece) -> StagedPiece:
    p = piece
    return StagedPiece(Piece(p.layer, Part(p.part), p.index, p.first, p.count, p.length), p.slot)
