"""Profiles that come with the package: the paper's."""

import os
from importlib.resources import as_file, files
from pathlib import Path

from prfaas.errors import ConfigError
from prfaas.planner.profile import EngineProfile
from prfaas.planner.profile_file import load_profile

_DATA = files("prfaas.planner") / "data"


def built_in_profiles() -> tuple[str, ...]:
    """Their names, in alphabetical order."""
    return tuple(sorted(each.name.removesuffix(".yaml") for each in _DATA.iterdir() if each.name.endswith(".yaml")))


def find_profile(name: str, folder: Path | None = None) -> EngineProfile:
    """A built-in profile by its name, or else that of a file.

    Args:
        folder: where a relative path begins; without it where the program runs.

    Raises:
        ConfigError: neither is there, or the file is wrong.
    """
    if name in built_in_profiles():
        with as_file(_DATA / f"{name}.yaml") as path:
            return load_profile(path)
    path = Path(os.path.normpath((folder or Path()) / name))
    if not path.exists():
        raise ConfigError(
            f"{path}: no such file, and no built-in profile of that name: there are {', '.join(built_in_profiles())}"
        )
    return load_profile(path)
