"""Backpressure: how many frames may be on the way to the decode side.

One credit is one frame and one receive slot. The decode side splits its slots over the sessions that have started
loads; the prefill side spends credit on whichever transfer has data, so a load that waits in a queue hoards nothing.
Credit lapses on both sides when the session's last started load is over (the decode side's ``Done`` or ``Abort`` for
it), which begins a new *round*: a frame names its round, so one that was still on the way is not paid from the next.
"""

from dataclasses import dataclass

from prfaas.errors import RemoteProtocolError

ROUNDS = 1 << 16
"""The frame header keeps a round in 16 bits."""

MAX_STARTED = 4_096
"""Started transfers of one session: far above the loads an engine admits."""


@dataclass(eq=False)
class Account:
    """One session's part of the receive slots; two sessions' are never the same one, however equal their figures.

    Attributes:
        granted: credit the peer may have left, frames on the way included.
        lent: slots being filled or lent to the engine.
        started: loads that may receive frames.
        round: number of times the credit has lapsed.
    """

    granted: int = 0
    lent: int = 0
    started: int = 0
    round: int = 0


class ReceiveBudget:
    """The decode side's split of its receive slots. Granted and lent slots together never exceed them.

    Args:
        slots: how many there are.
        sessions: how many sessions are to be expected, connected or not.
    """

    def __init__(self, slots: int, sessions: int = 1) -> None:
        self._slots, self._sessions = slots, sessions
        self._accounts: list[Account] = []
        self._lent = 0

    def join(self) -> Account:
        """A session opens."""
        account = Account()
        self._accounts.append(account)
        return account

    def leave(self, account: Account) -> None:
        """A session is over: its unused credit is void; slots lent to the engine come back as they are done."""
        account.granted = account.started = 0
        self._accounts.remove(account)

    def begin(self, account: Account) -> None:
        """A load of this session starts."""
        account.started += 1

    def end(self, account: Account) -> None:
        """A started load is over."""
        account.started -= 1
        if account.started == 0:
            account.granted = 0
            account.round = (account.round + 1) % ROUNDS

    def spend(self, account: Account, frame_round: int, *, takes_slot: bool) -> None:
        """A frame arrives.

        Raises:
            RemoteProtocolError: the peer sent it without credit.
        """
        if frame_round == account.round:
            if account.granted == 0:
                raise RemoteProtocolError("frame without credit")
            account.granted -= 1
        elif takes_slot:
            raise RemoteProtocolError("frame from a credit round that is over")
        if takes_slot:
            account.lent += 1
            self._lent += 1

    def refund(self, account: Account, frame_round: int) -> None:
        """A frame that was paid for was lost with its connection: the peer takes its credit back, too."""
        if frame_round == account.round:
            account.granted += 1

    def slot_done(self, account: Account) -> None:
        """A lent slot is free again."""
        account.lent -= 1
        self._lent -= 1

    def grants(self) -> list[tuple[Account, int]]:
        """Grant what is due now: each session is filled up to an equal share, the emptiest first.

        As long as some expected session has no load, one more share is kept free, so that one that starts, or connects
        only now, need not wait for frames of the others. Small top-ups are saved up to a quarter of a share: fewer
        messages.
        """
        active = sorted((a for a in self._accounts if a.started), key=lambda a: a.granted + a.lent)
        if not active:
            return []
        share = max(1, self._slots // min(len(active) + 1, max(len(self._accounts), self._sessions)))
        free = self._slots - self._lent - sum(a.granted for a in self._accounts)
        due: list[tuple[Account, int]] = []
        for account in active:
            frames = min(share - account.granted - account.lent, free)
            if frames > 0 and (frames * 4 >= share or account.granted == 0):
                account.granted += frames
                free -= frames
                due.append((account, frames))
        return due


class SendCredit:
    """The prefill side's credit in one session."""

    def __init__(self) -> None:
        self.frames = 0
        self.round = 0
        self._started: set[int] = set()

    def start(self, handle: int) -> None:
        """The decode side started this transfer.

        Raises:
            RemoteProtocolError: it has started more than it can have.
        """
        if len(self._started) >= MAX_STARTED:
            raise RemoteProtocolError(f"more than {MAX_STARTED} transfers started at a time")
        self._started.add(handle)

    def end(self, handle: int) -> None:
        """The decode side's ``Done`` or ``Abort``, in the order in which it said so."""
        if handle in self._started:
            self._started.discard(handle)
            if not self._started:
                self.frames = 0
                self.round = (self.round + 1) % ROUNDS

    def grant(self, frames: int) -> None:
        """The decode side allows more."""
        self.frames += frames

    def spend(self) -> int:
        """Pay for one frame; return the round to write into it."""
        self.frames -= 1
        return self.round

    def refund(self, frame_round: int) -> None:
        """A frame was lost with its connection: the decode side still has its slot for us."""
        if frame_round == self.round:
            self.frames += 1
