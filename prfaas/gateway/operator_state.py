"""What operators have said, where all processes of a gateway see it and a restart finds it."""

import fcntl
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from prfaas.errors import ConfigError

MAX_BYTES = 1024 * 1024
"""Names of engines; a file this long is another one."""


class OperatorState(msgspec.Struct, frozen=True):
    """The word of the operators.

    Attributes:
        drained: engines that take no new requests.
        reloads: how often the configuration was to be read again.
    """

    drained: frozenset[str] = frozenset()
    reloads: int = 0


@dataclass
class OperatorStore:
    """Keeps the state in a file, or without a path in this process alone."""

    path: Path | None
    state: OperatorState = field(default_factory=OperatorState)

    def read(self) -> OperatorState:
        """The state now; a file that is not there yet holds nothing.

        Raises:
            ConfigError: the file cannot be read or is another one's.
        """
        if self.path is None:
            return self.state
        try:
            with self.path.open("rb") as file:
                content = file.read(MAX_BYTES)
        except FileNotFoundError:
            return OperatorState()
        except OSError as error:
            raise ConfigError(f"gateway.state_file: {self.path}: cannot be read: {error.strerror}") from None
        try:
            return msgspec.json.decode(content, type=OperatorState)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ConfigError(f"gateway.state_file: {self.path}: not a state of ours ({error}): remove it") from None

    def update(self, change: Callable[[OperatorState], OperatorState]) -> OperatorState:
        """Change the state, one process at a time. Returns what it is then. Raises ConfigError."""
        if self.path is None:
            self.state = change(self.state)
            return self.state
        try:
            with Path(f"{self.path}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # held for a read and a write of one small file
                state = change(self.read())
                new = Path(f"{self.path}.new")
                new.write_bytes(msgspec.json.encode(state))
                os.replace(new, self.path)
        except OSError as error:
            raise ConfigError(f"gateway.state_file: {self.path}: cannot be written: {error.strerror}") from None
        return state
