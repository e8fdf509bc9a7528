"""The operators' key."""

from pathlib import Path

from prfaas.errors import ConfigError

MIN_CHARS = 16
"""Fewer can be guessed."""


def read_key(path: Path, named: str = "gateway.operator_key_file") -> bytes:
    """The key in a file that ``named`` names, without white space around it. Raises ConfigError."""
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"{named}: {path}: cannot be read: {error.strerror}") from None
    if len(key) < MIN_CHARS or not key.isascii() or len(key.split()) != 1:
        raise ConfigError(f"{named}: {path}: give one line of at least {MIN_CHARS} ASCII characters")
    return key
