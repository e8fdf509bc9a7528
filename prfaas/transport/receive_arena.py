"""The decode side's receive slots: who has which, and who may have more."""

from prfaas.errors import RemoteProtocolError
from prfaas.transport.staging import Staging
from prfaas.wire.credit import Account, ReceiveBudget


class ReceiveArena:
    """Receive slots with the session that each is counted for. A slot is free, being filled, or lent to the worker."""

    def __init__(self, staging: Staging, sessions: int = 1) -> None:
        """``sessions`` are to be expected: one that is not connected yet finds slots when it comes."""
        self.budget = ReceiveBudget(staging.receive_slots, sessions)
        self._staging = staging
        self._free = list(range(staging.receive_slots))
        self._owners: dict[int, Account] = {}

    @property
    def lent_slots(self) -> int:
        """Slots that are not free."""
        return len(self._owners)

    def take(self, account: Account, frame_round: int) -> int:
        """Pay for a frame with the session's credit and reserve its slot.

        Raises:
            RemoteProtocolError: the peer had no credit, or more than there are slots.
        """
        if not self._free:
            raise RemoteProtocolError("frame without a free slot")
        self.budget.spend(account, frame_round, takes_slot=True)
        slot = self._free.pop()
        self._owners[slot] = account
        return slot

    def memory(self, slot: int) -> memoryview:
        """The bytes of a slot."""
        return self._staging.receive_slot(slot)

    def done(self, slot: int) -> bool:
        """A slot is free again; False when it was free already (the worker's mistake, to be logged)."""
        account = self._owners.pop(slot, None)
        if account is None:
            return False
        self.budget.slot_done(account)
        self._free.append(slot)
        return True

    def grants(self) -> list[tuple[Account, int]]:
        """Credit that is due to sessions now."""
        return self.budget.grants()
