"""Shared memory between a worker and its mover: equal slots, send slots first, then receive slots."""

import mmap
import os


class Staging:
    """One memfd, mapped by both processes. A slot holds one piece; see ``messages`` for who owns which slot when.

    The creator passes ``fd`` to the other process and closes its ``Staging`` last. ``buffer`` is the whole region,
    writable; views of it may outlive ``close``, the memory goes with the last of them.
    """

    def __init__(self, fd: int, *, slot_bytes: int, send_slots: int, receive_slots: int) -> None:
        if slot_bytes <= 0 or slot_bytes % mmap.PAGESIZE:
            raise ValueError(f"slot_bytes is {slot_bytes}, it must be a multiple of {mmap.PAGESIZE}")
        if send_slots < 0 or receive_slots < 0 or send_slots + receive_slots == 0:
            raise ValueError(f"{send_slots} send and {receive_slots} receive slots: at least one slot is needed")
        self.fd = fd
        self.slot_bytes = slot_bytes
        self.send_slots = send_slots
        self.receive_slots = receive_slots
        self._map = mmap.mmap(fd, (send_slots + receive_slots) * slot_bytes)
        self.buffer = memoryview(self._map)

    @classmethod
    def create(cls, *, slot_bytes: int, send_slots: int, receive_slots: int) -> "Staging":
        """Make the memory. It is zero until written and takes real memory page by page as it is written."""
        fd = os.memfd_create("prfaas-staging", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, (send_slots + receive_slots) * slot_bytes)
            return cls(fd, slot_bytes=slot_bytes, send_slots=send_slots, receive_slots=receive_slots)
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def attach(cls, fd: int, *, slot_bytes: int, send_slots: int, receive_slots: int) -> "Staging":
        """Map the memory that another process made; takes ownership of ``fd``."""
        return cls(fd, slot_bytes=slot_bytes, send_slots=send_slots, receive_slots=receive_slots)

    def send_slot(self, slot: int) -> memoryview:
        """The bytes of a send slot, ``slot_bytes`` long."""
        if not 0 <= slot < self.send_slots:
            raise IndexError(f"send slot {slot} of {self.send_slots}")
        return self.buffer[slot * self.slot_bytes : (slot + 1) * self.slot_bytes]

    def receive_slot(self, slot: int) -> memoryview:
        """The bytes of a receive slot, ``slot_bytes`` long."""
        if not 0 <= slot < self.receive_slots:
            raise IndexError(f"receive slot {slot} of {self.receive_slots}")
        start = (self.send_slots + slot) * self.slot_bytes
        return self.buffer[start : start + self.slot_bytes]

    def close(self) -> None:
        """Give the memory up (idempotent)."""
        if self.fd < 0:
            return
        os.close(self.fd)
        self.fd = -1
        self.buffer.release()
        try:
            self._map.close()
        except BufferError:
            # Somebody still holds a view (a tensor, a slot); the map is closed when the last one goes.
            return
