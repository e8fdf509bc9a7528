"""Where a peer waits that opens a transfer before the engine offers it, or with a wrong secret.

Both look the same from outside: they wait for the same time, then hear "unknown transfer". An opener with a wrong
secret therefore learns nothing and cannot take the place of the right one.
"""

import hmac
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from prfaas.wire.control import Open, Start

UNKNOWN_TRANSFER = "unknown transfer"
MAX_WAITING = 1_024
"""Openers waiting per session: far above the loads an engine admits at a time."""

S = TypeVar("S", bound=Hashable)


@dataclass
class Opener(Generic[S]):
    """A peer's ``Open`` that has no transfer yet, and its ``Start`` if that came too."""

    session: S
    open: Open
    deadline_s: float
    start: Start | None = field(default=None)


def secrets_equal(ours: str, theirs: str) -> bool:
    """Compare in a time that does not depend on the contents; an empty secret never matches."""
    return bool(ours) and hmac.compare_digest(ours.encode(), theirs.encode())


class Doorway(Generic[S]):
    """All openers that wait, over all sessions."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[S, int], Opener[S]] = {}

    def wait(self, session: S, message: Open, deadline_s: float) -> bool:
        """Let an opener wait; False when too many of its session do already."""
        if sum(1 for other, _ in self._waiting if other == session) >= MAX_WAITING:
            return False
        self._waiting[session, message.handle] = Opener(session, message, deadline_s)
        return True

    def start(self, session: S, message: Start) -> bool:
        """Remember the ``Start`` of a waiting opener; False when there is none."""
        opener = self._waiting.get((session, message.handle))
        if opener is not None:
            opener.start = message
        return opener is not None

    def leave(self, session: S, handle: int) -> None:
        """The opener gave up."""
        self._waiting.pop((session, handle), None)

    def leave_all(self, session: S) -> None:
        """The session is over."""
        for key in [key for key in self._waiting if key[0] == session]:
            del self._waiting[key]

    def admit(self, transfer_id: str, secret: str) -> Opener[S] | None:
        """Take out the first opener of this transfer that knows the secret."""
        for key, opener in self._waiting.items():
            if opener.open.transfer_id == transfer_id and secrets_equal(secret, opener.open.secret):
                return self._waiting.pop(key)
        return None

    def expired(self, now_s: float) -> list[Opener[S]]:
        """Take out everyone who has waited long enough."""
        late = [key for key, opener in self._waiting.items() if opener.deadline_s <= now_s]
        return [self._waiting.pop(key) for key in late]
