"""Resolve the versions in the images anew: make constraints

Writes deploy/constraints: gateway.txt, engine-cpu.txt and build.txt, each a whole environment, one ``name==version`` a
line. It has to run with the Python version of the images, as markers depend on it. What engine-gpu adds to vLLM's own
image comes from gateway.txt.
"""

import json
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "deploy" / "constraints"
IMAGE_PYTHON = (3, 11)
TORCH = "torch==2.13.0"
USELESS = ("nvidia-", "cuda-", "triton")
"""What torch and xgrammar bring for GPUs: 4 GB that an engine on a CPU never opens."""
HEADER = "# Made by `make constraints`, for Python {}.{} on x86-64 Linux: the whole environment of {}.\n"


def resolve(*arguments: str) -> list[dict[str, Any]]:
    """What pip would install for requirements or options: one entry a package, with its ``metadata``.

    Raises:
        CalledProcessError: it found nothing that fits; pip has said what.
    """
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    done = subprocess.run([*command, *arguments], stdout=subprocess.PIPE, check=True)
    packages: list[dict[str, Any]] = json.loads(done.stdout)["install"]
    return packages


def pins(packages: Sequence[dict[str, Any]]) -> list[str]:
    """As lines, without what a CPU has no use for, and without the local part of versions (``+cpu``)."""
    found = {canonicalize_name(each["metadata"]["name"]): each["metadata"]["version"] for each in packages}
    return [f"{name}=={found[name].split('+')[0]}" for name in sorted(found) if not name.startswith(USELESS)]


def needs_of(package: dict[str, Any]) -> list[str]:
    """What it requires here, torch's family apart (scripts/setup_venv.py says why)."""
    needs = [Requirement(text) for text in package["metadata"]["requires_dist"]]
    return [
        str(each)
        for each in needs
        if not each.name.startswith("torch") and (each.marker is None or each.marker.evaluate({"extra": ""}))
    ]


def write(name: str, lines: Sequence[str]) -> Path:
    """Write a file of constraints; returns its path."""
    path = FOLDER / f"{name}.txt"
    path.write_text(HEADER.format(*IMAGE_PYTHON, name) + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"{path.relative_to(ROOT)}: {len(lines)} packages")
    return path


def main() -> None:
    if sys.version_info[:2] != IMAGE_PYTHON:
        sys.exit(f"constraints: needs Python {'.'.join(map(str, IMAGE_PYTHON))}, as the images have")
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = pyproject["project"]
    extras = project["optional-dependencies"]
    base = [*project["dependencies"], *extras["certs"], *extras["traces"]]
    write("build", pins(resolve(*pyproject["build-system"]["requires"])))
    [vllm] = resolve("--no-deps", *extras["cpu"])
    engine = write("engine-cpu", pins([vllm, *resolve(*base, *needs_of(vllm), TORCH)]))
    # The gateway has the engine's versions of what both have: it makes the same tokens.
    write("gateway", pins(resolve("--constraint", str(engine), *base)))


if __name__ == "__main__":
    main()
