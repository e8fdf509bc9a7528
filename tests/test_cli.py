import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from prfaas import __version__
from prfaas.config import parse_config, tls_settings
from prfaas.transport.settings import TlsSettings
from prfaas.transport.tls import KeyRing

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "deploy" / "local" / "prfaas.yaml"

Run = Callable[..., int]

COMMANDS = [
    *("gateway", "engine", "drain", "undrain", "reload", "demo", "up", "certs", "config", "version"),
    *("plan", "profile", "simulate", "doctor"),
]


def test_version(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """The package's version is printed alone."""
    assert run("version") == 0
    assert capsys.readouterr().out.strip() == __version__


def test_results_as_json(run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Each one document."""

    def told(*arguments: object) -> dict[str, Any]:
        assert run(*arguments, "--json") == 0
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        return document

    assert told("version") == {"version": __version__}
    assert told("config", "check", EXAMPLE)["engines"] == 2
    made = told("certs", tmp_path, "--site", "edge")
    assert made["authority"] == {"key": str(tmp_path / "ca.key"), "is_new": True}
    assert made["sites"]["edge"]["tls"]["cert"] == str(tmp_path / "edge.crt")
    assert told("engine", "-c", EXAMPLE, "--site", "edge", "--show")["argv"][0]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(run: Run, capsys: pytest.CaptureFixture[str], command: str) -> None:
    """Each command explains itself, and the overview lists it."""
    assert run(command, "--help") == 0
    assert "Usage" in capsys.readouterr().out
    run("--help")
    assert command in capsys.readouterr().out


def test_check_accepts_the_example(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """A good file is called fine, with what is in it."""
    assert run("config", "check", EXAMPLE) == 0
    assert "sites 2, engines 2, links 1" in capsys.readouterr().out


def test_wrong_config_is_one_line_and_exit_code_2(run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A misspelt key is told in one line that names it and the way out; no stack trace."""
    path = tmp_path / "bad.yaml"
    path.write_text(EXAMPLE.read_text().replace("threshold_tokens", "treshold_tokens"))
    assert run("config", "check", path) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("prfaas: config: ")
    assert "treshold_tokens" in line
    assert "threshold_tokens'" in line


@pytest.mark.parametrize("command", ["gateway", "engine"])
def test_missing_config_file_is_told(run: Run, capsys: pytest.CaptureFixture[str], command: str) -> None:
    """Servers refuse to start without their file, in one line."""
    assert run(command, "--config", "/no/such/file.yaml") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "/no/such/file.yaml" in line


def test_environment_overrides_reach_the_command(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value from the environment is what the engine is started with."""
    monkeypatch.setenv("PRFAAS__MODEL__NAME", "renamed")
    assert run("engine", "--config", EXAMPLE, "--site", "edge", "--show") == 0
    assert "--served-model-name renamed" in capsys.readouterr().out


def test_engine_passes_arguments_on_to_vllm(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything after -- ends up at the end of vLLM's command line, options included."""
    assert run("engine", "-c", EXAMPLE, "--site", "cloud", "--show", "--", "--tensor-parallel-size", "8") == 0
    assert capsys.readouterr().out.rstrip().endswith("--tensor-parallel-size 8")


@pytest.mark.parametrize(
    ("inherited", "vllm_args", "space"),
    [
        (None, (), "4"),
        ("12", (), None),
        (None, ("--gpu-memory-utilization=0.5",), None),
        (None, ("--kv-cache-memory-bytes", "1000000000"), None),
        (None, ("--gpu_memory_utilization=0.5",), None),
        (None, ("--kv_cache_memory_bytes", "1000000000"), None),
    ],
)
def test_cache_of_an_engine_without_a_gpu_is_bounded_unless_the_operator_says(
    run: Run,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    inherited: str | None,
    vllm_args: tuple[str, ...],
    space: str | None,
) -> None:
    """vLLM alone would want 92 % of the machine's memory to be free, and refuse to start otherwise."""
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)
    if inherited:
        monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", inherited)
    assert run("engine", "-c", EXAMPLE, "--site", "edge", "--show", "--json", "--", *vllm_args) == 0
    assert json.loads(capsys.readouterr().out)["env"].get("VLLM_CPU_KVCACHE_SPACE") == space


def test_ambiguous_engine_lists_the_choices(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a site or a name, two engines are one too many."""
    assert run("engine", "--config", EXAMPLE) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "edge-0 (site edge)" in line
    assert "cloud-0 (site cloud)" in line


@pytest.mark.parametrize("arguments", [("engine", "-c", EXAMPLE, "--site", "edge"), ("demo",), ("up",)])
def test_missing_vllm_is_told(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...]
) -> None:
    """Without vLLM the commands that start engines say what to install."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert run(*arguments) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "make setup" in line


def test_schema_is_json(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """The schema can be fed to an editor."""
    assert run("config", "schema") == 0
    assert "engines" in json.loads(capsys.readouterr().out)["properties"]


def test_help_is_quick() -> None:
    """Showing the help loads none of the heavy libraries."""
    code = """
import sys
from prfaas import cli
heavy = {"aiohttp", "fastapi", "grpc", "matplotlib", "numpy", "openai", "transformers", "uvicorn"}
print(*sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=True)
    assert not done.stdout.split()


def test_certs_prints_what_belongs_into_the_configuration(
    run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The printed lines are YAML that the configuration accepts, of files that the transport accepts."""
    assert run("certs", tmp_path, "--site", "edge", "--site", "cloud", "--host", "10.0.0.7") == 0
    printed = capsys.readouterr().out
    sites = yaml.safe_load(printed.partition("\n\n")[2])["sites"]
    tree = yaml.safe_load(EXAMPLE.read_text())
    config = parse_config({**tree, "sites": sites})
    for site in ("edge", "cloud"):
        settings = tls_settings(config, site)
        assert settings is not None
        KeyRing(msgspec.convert(settings, TlsSettings))


def test_certs_renews_one_site_and_keeps_the_rest(run: Run, tmp_path: Path) -> None:
    """A second call changes the certificate of the named site alone, and signs with the same authority."""
    run("certs", tmp_path, "--site", "edge", "--site", "cloud")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert run("certs", tmp_path, "--site", "edge") == 0
    changed = {name for name, content in before.items() if (tmp_path / name).read_bytes() != content}
    assert changed == {"edge.crt", "edge.key"}


@pytest.mark.parametrize("site", ["../edge", "ca", ""])
def test_certs_refuses_names_that_are_no_site(
    run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path, site: str
) -> None:
    """Nothing is written for a name that would leave the folder or take the authority's place."""
    assert run("certs", tmp_path / "certs", "--site", site) == 2
    assert "not a name that a site can have" in capsys.readouterr().err
    assert not (tmp_path / "certs").exists()
