"""What a check has found: frozen values, and what several findings come to."""

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prfaas.doctor.kinds import KINDS


class Level(enum.StrEnum):
    """How bad it is.

    A problem stops requests, transfers or the next start, now. A warning will, or costs something. A note is only told.
    """

    PROBLEM = "problem"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        code: its kind, stable from version to version (``kinds.py``).
        level: how bad it is.
        where: a key of the configuration, an engine, a link, a folder.
        what: what is wrong, with the figures, in one line.
        why: why that matters.
        way_out: what to type or to change.
    """

    code: str
    level: Level
    where: str
    what: str
    why: str
    way_out: str


@dataclass(frozen=True, slots=True)
class Checked:
    """What one check has done.

    Attributes:
        findings: what it found, empty where all is well.
        seen: what it looked at, a line each, for people.
        figures: what it measured, by name.
    """

    findings: tuple[Finding, ...] = ()
    seen: tuple[str, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)


def finding(code: str, where: str, what: str, way_out: str) -> Finding:
    """A finding of a known kind."""
    kind = KINDS[code]
    return Finding(code, Level(kind.level), where, what, kind.why, way_out)


def merged(parts: Iterable[Checked]) -> Checked:
    """Several things that one check has done."""
    parts = list(parts)
    return Checked(
        tuple(each for part in parts for each in part.findings),
        tuple(line for part in parts for line in part.seen),
        {name: figure for part in parts for name, figure in part.figures.items()},
    )
