"""The package table of docs/structure.md, enforced: who may import whom, and who must stay light."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "prfaas"

BASE = frozenset({"errors", "types", "prefix", "clock", "tracing"})
MAY_IMPORT: dict[str, frozenset[str]] = {
    "errors": frozenset(),
    "types": frozenset(),
    "prefix": frozenset(),
    "clock": frozenset(),
    "tracing": frozenset(),
    "config": BASE,
    "wire": BASE | {"config"},
    "transport": BASE | {"config", "wire", "observe"},
    "engine": BASE | {"config", "wire", "transport", "observe"},
    "routing": frozenset({"types"}),
    "fleet": frozenset({"types", "prefix", "clock"}),
    "planner": frozenset({"errors", "types", "clock", "routing"}),
    "observe": frozenset({"errors", "types", "prefix", "tracing"}),
    "measure": BASE | {"planner"},
    "gateway": BASE | {"config", "routing", "fleet", "planner", "observe"},
    "launch": BASE | {"config"},
    "doctor": BASE | {"config", "wire", "transport"},
}
"""Package or module directly below prfaas -> the others it may import. The command line may import all."""

COMPOSITION_ROOT = frozenset({"cli", "commands", "__main__", "__init__"})
ENGINE_LIBRARIES = frozenset({"torch", "vllm"})


def _unit(path: Path) -> str:
    """The package or top module that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def _imported_names(path: Path) -> Iterator[str]:
    """Full dotted names of everything a file imports, relative imports resolved."""
    package = ("prfaas", *path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *((node.module,) if node.module else ())))
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _violations(path: Path, allowed: frozenset[str] | None) -> list[str]:
    """What ``path`` imports against the table; ``allowed`` None means everything of ours."""
    unit = _unit(path)
    found = []
    for name in _imported_names(path):
        head, _, rest = name.partition(".")
        if head in ENGINE_LIBRARIES and unit != "engine":
            found.append(f"{path.name} imports {name}: only prfaas.engine may")
        if head != "prfaas" or not rest:
            continue
        target = rest.partition(".")[0]
        is_unit = target in MAY_IMPORT or target in COMPOSITION_ROOT
        if is_unit and allowed is not None and target != unit and target not in allowed:
            found.append(f"prfaas.{unit} ({path.name}) imports {name}")
    return found


SOURCES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_import_directions(path: Path) -> None:
    """Every file imports only what the package table allows."""
    unit = _unit(path)
    if unit in COMPOSITION_ROOT:
        assert not _violations(path, None)
    else:
        assert unit in MAY_IMPORT, f"prfaas.{unit} is missing in the package table of this test and docs/structure.md"
        assert not _violations(path, MAY_IMPORT[unit])


@pytest.mark.parametrize(
    ("unit", "source"),
    [
        ("routing/place.py", "import prfaas.config"),
        ("routing/place.py", "from prfaas.fleet import view"),
        ("planner/search.py", "from prfaas.config.load import load_config"),
        ("wire/frame.py", "from prfaas import transport"),
        ("wire/frame.py", "from .. import transport"),
        ("gateway/app.py", "from ..transport.report import ReportClient"),
        ("gateway/app.py", "def late():\n    import torch.cuda"),
        ("launch/stack.py", "from prfaas import cli"),
    ],
)
def test_wrong_directions_are_found(unit: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Absolute, relative and late imports against the table are all reported."""
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    path = tmp_path / unit
    path.parent.mkdir()
    path.write_text(source)
    assert _violations(path, MAY_IMPORT[_unit(path)])


@pytest.mark.parametrize(
    "module",
    [
        "errors",
        "types",
        "clock",
        "config",
        "routing",
        "fleet",
        "planner",
        "gateway",
        "wire",
        "transport",
        "measure",
        "doctor",
        "cli",
    ],
)
def test_light_modules_load_no_engine_library(module: str) -> None:
    """Importing everything but the engine package loads neither torch nor vLLM."""
    if not any(ROOT.glob(f"{module}*")):
        pytest.skip(f"prfaas.{module} does not exist yet")
    code = f"""
import importlib, pkgutil, sys
top = importlib.import_module("prfaas.{module}")
for found in pkgutil.walk_packages(getattr(top, "__path__", []), top.__name__ + "."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
print(*sorted({{"torch", "vllm"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert not done.stdout.split(), f"importing prfaas.{module} loads an engine library"


def _requirement_name(text: str) -> str:
    return re.split(r"[<>=!~\[; ]", text, maxsplit=1)[0].lower().replace("_", "-")


def test_every_library_is_a_declared_dependency() -> None:
    """What the base install imports, the base install brings: nothing is there only because vLLM pulls it in."""
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {_requirement_name(text) for text in project["dependencies"]}
    # Of the extras demo, dev, certs, plan and traces; their users say so when they are missing.
    optional = {"openai", "grpc_tools", "cryptography", "matplotlib", "opentelemetry"}
    optional |= {"pydantic_core"}  # pydantic's own half, pinned by it
    optional |= {"zmq"}  # the mover's, which runs beside vLLM alone and reads vLLM's own sockets with it
    providers = importlib.metadata.packages_distributions()
    undeclared = {
        f"{path.relative_to(ROOT)} imports {module}"
        for path in SOURCES
        if _unit(path) != "engine"
        for name in _imported_names(path)
        if (module := name.partition(".")[0]) not in sys.stdlib_module_names | optional | {"prfaas"}
        if not declared & {provider.lower().replace("_", "-") for provider in providers.get(module, [])}
    }
    assert not undeclared
