"""A folder for one local stack at a time: two would write over each other's logs and configuration."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prfaas.errors import PrfaasError


class FolderInUse(PrfaasError):
    """Another stack runs in the folder."""


@contextmanager
def sole_use(folder: Path) -> Iterator[None]:
    """Keep ``folder``, made if need be, for the block; the kernel lets go of it when this process dies.

    Raises:
        FolderInUse: somebody else has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderInUse(f"{folder}: a stack runs there already: stop it, or choose another --folder") from None
        yield
