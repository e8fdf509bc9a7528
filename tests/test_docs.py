"""docs/structure.md names every file there is, and no other."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STRUCTURE = ROOT / "docs" / "structure.md"
PAGES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))


def listed() -> dict[str, str]:
    """Path below the root -> its description, for all lines of the form "- `name` description" below a package."""
    found: dict[str, str] = {}
    package = ""
    for line in STRUCTURE.read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"### `(prfaas/[^`]*)`", line):
            package = heading[1]
            found[package] = line
        elif line.startswith("### "):
            package = ""
        elif package and (item := re.match(r"- `([^`]+)` (.+)", line)):
            found[f"{package}{item[1]}"] = item[2]
    return found


def test_every_listed_path_exists() -> None:
    """The page names nothing that is gone."""
    assert [path for path in listed() if not (ROOT / path).exists()] == []


def test_every_source_file_is_listed() -> None:
    """Each module has a line of its own, or belongs to a folder that has one."""
    paths = listed()
    folders = [
        path for path in paths if path.endswith("/") and not any(p != path and p.startswith(path) for p in paths)
    ]
    missing = [
        name
        for path in sorted((ROOT / "prfaas").rglob("*.py"))
        if path.name not in ("__init__.py", "__main__.py") and "_pb2" not in path.name
        if (name := str(path.relative_to(ROOT))) not in paths and not any(name.startswith(folder) for folder in folders)
    ]
    assert missing == [], "add a line for these to docs/structure.md"


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *PAGES])
def test_relative_links_lead_somewhere(page: str) -> None:
    """No page links to a file that does not exist."""
    path = ROOT / page
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8"))
    assert [each for each in targets if "://" not in each and not (path.parent / each).exists()] == []
