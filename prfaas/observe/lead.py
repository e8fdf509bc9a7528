"""Which of several processes counts what all of them see."""

import fcntl
from pathlib import Path
from typing import IO


class Lead:
    """The first process that asks has it until it ends; then it is the next one's. Where there is one it is its own."""

    def __init__(self, folder: str | None) -> None:
        """``folder`` is what the processes share."""
        self._path = None if folder is None else Path(folder, "lead")
        self._held: IO[str] | None = None

    def is_ours(self) -> bool:
        """Whether this process has it now."""
        if self._path is None or self._held is not None:
            return True
        try:
            file = self._path.open("w")
        except OSError:  # no descriptor is left: whoever has one counts, and this process asks again
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # another has it
            file.close()
            return False
        self._held = file  # the kernel lets go of it with the process, however that ends
        return True
