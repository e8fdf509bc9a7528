"""The kinds of findings: the page for operators has them all, and each can be found."""

import re
from pathlib import Path

from prfaas.doctor.finding import Level
from prfaas.doctor.kinds import KINDS, table

ROOT = Path(__file__).parents[2]
SOURCES = "\n".join(
    path.read_text(encoding="utf-8")
    for folder in ("prfaas/doctor", "prfaas/commands")
    for path in (ROOT / folder).glob("*.py")
    if path.name != "kinds.py"
)


def test_the_page_has_the_table() -> None:
    """docs/operations.md lists every kind as the code has it; `python -m prfaas.doctor.kinds` prints the table."""
    assert table() in (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def test_every_kind_is_made_somewhere_and_tested() -> None:
    """No code is only listed, and each has a test that names it."""
    tests = "\n".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    tests += (ROOT / "tests" / "commands" / "test_doctor.py").read_text(encoding="utf-8")
    assert [code for code in KINDS if f'"{code}"' not in SOURCES] == []
    assert [code for code in KINDS if f'"{code}"' not in tests] == []


def test_kinds_are_well_formed() -> None:
    """A check and a word; a level that there is; one line each."""
    for code, kind in KINDS.items():
        assert re.fullmatch(r"[a-z]+\.[a-z_]+", code)
        assert kind.level in list(Level)
        assert "\n" not in kind.when + kind.why
        assert "|" not in kind.when + kind.why
