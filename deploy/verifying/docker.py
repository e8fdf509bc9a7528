"""Docker's command line, as far as it is needed: any since 20.10, with ``docker compose`` or docker-compose 1.29."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
COMPOSE_FILE = ROOT / "deploy" / "local" / "compose.yaml"
MEBIBYTE = 1 << 20


class DockerFailed(Exception):
    """A command that did not work, with its last words."""


def run(*command: str, timeout_s: float = 300) -> str:
    """Run a command; returns what it prints.

    Raises:
        DockerFailed: it failed or took too long.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise DockerFailed(f"{' '.join(command)}: not done within {timeout_s:g} s") from None
    if done.returncode:
        words = "\n".join((done.stdout + done.stderr).splitlines()[-30:])
        raise DockerFailed(f"{' '.join(command)}: exit code {done.returncode}\n{words}")
    return done.stdout


def compose_command() -> tuple[str, ...]:
    """``docker compose`` where there is the plugin, else ``docker-compose``. Raises DockerFailed."""
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0:
        return ("docker", "compose")
    if shutil.which("docker-compose"):
        return ("docker-compose",)
    raise DockerFailed("neither `docker compose` nor `docker-compose` is there: install one of them")


@dataclass(frozen=True)
class Compose:
    """The local stack, under a project name of its own, so that one that runs already is left alone."""

    command: tuple[str, ...]
    project: str

    @classmethod
    def found(cls, project: str) -> "Compose":
        """Raises DockerFailed when there is no compose or no engine."""
        run("docker", "info")
        return cls(compose_command(), project)

    def __call__(self, *arguments: str, timeout_s: float = 300) -> str:
        return run(
            *self.command, "--project-name", self.project, "--file", str(COMPOSE_FILE), *arguments, timeout_s=timeout_s
        )

    def execute(self, service: str, *command: str) -> str:
        """Run a command in a service's container; returns what it prints."""
        return self("exec", "-T", service, *command)

    def operator_key(self) -> str:
        """What the gateway asks of who reads its records; made at the first start."""
        return self.execute("gateway", "cat", "/secrets/operator.key").strip()

    def wan(self, *change: str) -> str:
        """Change the link between the sites; returns how it is then."""
        return self.execute("wan", "python", "/wan.py", "set", *change).strip()

    def container(self, service: str) -> str:
        """The id of the service's container."""
        return self("ps", "-q", service).strip()

    def inspect(self, service: str) -> dict[str, Any]:
        """What Docker knows of the service's container."""
        found: list[dict[str, Any]] = json.loads(run("docker", "inspect", self.container(service)))
        return found[0]

    def health(self, service: str) -> str:
        """``starting``, ``healthy``, ``unhealthy``, or the container's state where it does not run."""
        state = self.inspect(service)["State"]
        return str(state["Health"]["Status"] if state["Running"] and "Health" in state else state["Status"])

    def memory_mib(self, service: str) -> float:
        """Memory that the container uses, its page cache apart."""
        shown = run("docker", "stats", "--no-stream", "--format", "{{.MemUsage}}", self.container(service))
        value = shown.split("/")[0].strip()
        units = {"KiB": 1 / 1024, "MiB": 1.0, "GiB": 1024.0}
        return next(float(value.removesuffix(unit)) * factor for unit, factor in units.items() if value.endswith(unit))

    def logs(self) -> Path:
        """Write all containers' logs to a temporary file."""
        path = Path(tempfile.gettempdir(), f"{self.project}.log")
        path.write_text(self("logs", "--no-color"), encoding="utf-8")
        return path


def image_mb(image: str) -> int:
    """Size of an image on disk in MB (10^6 bytes), its base included."""
    return round(int(run("docker", "image", "inspect", "--format", "{{.Size}}", image)) / 1e6)


def build(target: str, image: str, options: Sequence[str]) -> None:
    """Build one target of the Dockerfile. Raises DockerFailed."""
    run("docker", "build", "--target", target, "--tag", image, *options, str(ROOT), timeout_s=3_600)
