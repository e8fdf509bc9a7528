"""What the shell is told."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from prfaas.commands.exits import EPILOG, MEANINGS

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "deploy" / "local" / "prfaas.yaml"
DOCS = ROOT / "docs" / "cli.md"


def completed(line: str, folder: Path, **env: str) -> list[str]:
    """What bash would offer at the end of the line."""
    words = line.split(" ")
    code = "import sys; sys.argv = ['prfaas']; from prfaas.cli import app; app(prog_name='prfaas')"
    asked = {"_PRFAAS_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **asked, **env},
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.stdout.split()


def test_engines_and_sites_come_from_the_configuration(tmp_path: Path) -> None:
    """Of the file that the line names, the environment names, or that lies here."""
    assert completed(f"prfaas drain --config {EXAMPLE} e", tmp_path) == ["edge-0"]
    assert completed("prfaas drain ", tmp_path, PRFAAS_CONFIG=str(EXAMPLE)) == ["edge-0", "cloud-0"]
    (tmp_path / "prfaas.yaml").write_text(yaml.safe_dump({"engines": {"a": {"site": "b"}}, "sites": {"b": {}}}))
    assert completed("prfaas flip ", tmp_path) == ["a"]
    assert completed("prfaas engine --site ", tmp_path) == ["b"]
    assert completed("prfaas decisions --outcome rem", tmp_path) == ["remote"]


@pytest.mark.parametrize("content", ["", "[", "engines: 3", "engines: [a]", "- a"])
def test_a_file_that_is_wrong_completes_nothing(tmp_path: Path, content: str) -> None:
    """And breaks no line."""
    (tmp_path / "prfaas.yaml").write_text(content)
    assert completed("prfaas drain ", tmp_path) == []


def test_commands_complete(tmp_path: Path) -> None:
    """By their beginning."""
    assert completed("prfaas und", tmp_path) == ["undrain"]


def test_exit_codes_are_in_the_help_and_in_the_docs() -> None:
    """Each with its meaning."""
    page = DOCS.read_text(encoding="utf-8")
    for code, meaning in MEANINGS.items():
        assert f"{code} {meaning}" in EPILOG
        assert f"| {code} | {meaning} |" in page


def test_the_reference_is_up_to_date() -> None:
    """docs/cli.md is what `make cli-docs` writes."""
    from scripts.cli_docs import reference

    assert DOCS.read_text(encoding="utf-8") == reference(), "run make cli-docs"
