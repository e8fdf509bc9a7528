"""Making the environment, with small programs in the place of Python: the real thing takes minutes."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "setup_venv.py"


@pytest.fixture
def setup_venv() -> ModuleType:
    spec = importlib.util.spec_from_file_location("setup_venv", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("python", "made"),
    [(None, "-m venv {folder}"), ("exit 1", "-m venv --clear {folder}"), ("exit 0", "")],
    ids=["absent", "without pip", "whole"],
)
def test_environment_without_pip_is_made_anew(
    tmp_path: Path, setup_venv: ModuleType, monkeypatch: pytest.MonkeyPatch, python: str | None, made: str
) -> None:
    """What an interrupted run left is cleared; what is whole stays; a folder that is no environment is not cleared."""
    folder, calls = tmp_path / "venv", tmp_path / "calls"
    calls.touch()
    if python is not None:
        program(folder / "bin" / "python", python)
    monkeypatch.setattr("sys.executable", str(program(tmp_path / "system-python", f'echo "$@" >> {calls}')))
    setup_venv.Environment(folder).create()
    assert calls.read_text().strip() == made.format(folder=folder)


def test_link_that_leads_nowhere_is_made_anew(
    tmp_path: Path, setup_venv: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An environment whose Python has left the system is not ready, whatever its stamp says, and is cleared."""
    environment, calls = setup_venv.Environment(tmp_path / "venv"), tmp_path / "calls"
    environment.python.parent.mkdir(parents=True)
    environment.python.symlink_to(tmp_path / "gone")
    environment.note_made("wanted", {"cpu"})
    assert not environment.extras("wanted")
    monkeypatch.setattr("sys.executable", str(program(tmp_path / "system-python", f'echo "$@" >> {calls}')))
    environment.create()
    assert "--clear" in calls.read_text()


def test_environment_tells_what_an_earlier_run_put_in(tmp_path: Path, setup_venv: ModuleType) -> None:
    """Whoever wants less than is there has it, and nothing counts any more when the packages have changed."""
    environment = setup_venv.Environment(tmp_path / "venv")
    program(environment.python, "exit 0")
    assert environment.extras("wanted") == set()
    environment.note_made("wanted", {"demo", "cpu"})
    assert environment.extras("wanted") == {"cpu", "demo"}
    assert environment.extras("other") == set()
    environment.stamp.write_text("")
    assert environment.extras("wanted") == set()


def test_second_run_puts_in_what_is_missing(
    tmp_path: Path, setup_venv: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the demo's environment to the developer's, and nothing on the way back."""
    installed: list[set[str]] = []
    monkeypatch.setattr(setup_venv, "install", lambda environment, extras: installed.append(set(extras)))
    program(tmp_path / "bin" / "python", "exit 0")
    for extras in ("cpu,demo", "cpu,demo,dev", "cpu,demo"):
        monkeypatch.setattr("sys.argv", ["setup_venv.py", "--venv", str(tmp_path), "--extras", extras])
        assert setup_venv.main() == 0
    assert installed == [{"cpu", "demo"}, {"cpu", "demo", "dev"}]


def test_another_python_is_another_fingerprint(setup_venv: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment made by another version of Python is looked at again."""
    before = setup_venv.fingerprint()
    monkeypatch.setattr("sys.version_info", (3, 99, 0))
    assert setup_venv.fingerprint() != before


def test_engine_that_cannot_be_asked_is_told_in_words(tmp_path: Path, setup_venv: ModuleType) -> None:
    """When what vLLM needs cannot be read, the last lines of the reason are told instead of a traceback of ours."""
    environment = setup_venv.Environment(tmp_path / "venv")
    program(environment.python, 'test "$1" = -m || { echo "no such package" >&2; exit 1; }')
    with pytest.raises(setup_venv.SetupFailed, match="no such package"):
        setup_venv.install_cpu_vllm(environment)
