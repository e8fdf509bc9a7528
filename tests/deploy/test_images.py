"""What the Dockerfile is made of: constraints that fit pyproject.toml, and the small programs in deploy/images."""

import http.server
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from deploy.images import root as root_of_images
from deploy.images.beside import beside
from scripts.setup_venv import TORCH
from tests.deploy.files import DEPLOY, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
BASE = [*PROJECT["project"]["dependencies"], *EXTRAS["certs"], *EXTRAS["traces"]]
WANTED = {
    "build": PROJECT["build-system"]["requires"],
    "gateway": BASE,
    "engine-cpu": [*BASE, *EXTRAS["cpu"], TORCH],
}
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def pinned(name: str) -> dict[str, str]:
    """Package -> version of a file in deploy/constraints."""
    lines = (DEPLOY / "constraints" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


@pytest.mark.parametrize("name", WANTED)
def test_constraints_fit_the_project(name: str) -> None:
    """Every requirement is pinned, to a version that it allows; `make constraints` after a change."""
    pins = pinned(name)
    for requirement in map(Requirement, WANTED[name]):
        assert requirement.specifier.contains(pins[requirement.name.lower().replace("_", "-")]), requirement


@pytest.mark.parametrize("name", ["gateway", "build"])
def test_the_gateway_has_no_engine(name: str) -> None:
    """Neither torch nor vLLM, nor what they bring for GPUs."""
    assert not [each for each in pinned(name) if re.match("torch|vllm|nvidia|cuda|triton", each)]


def test_the_gpu_image_has_the_vllm_of_the_project() -> None:
    """The tag of vLLM's image is a version that pyproject.toml allows."""
    tag = re.search(r"^ARG VLLM_IMAGE=\S+:v(\S+)$", DOCKERFILE, flags=re.MULTILINE)
    [vllm] = [each for each in map(Requirement, EXTRAS["gpu"]) if each.name == "vllm"]
    assert tag is not None
    assert vllm.specifier.contains(tag[1])


@pytest.mark.parametrize("target", ["gateway", "engine-cpu", "engine-gpu"])
def test_a_target_is_no_root_and_tells_its_health(target: str) -> None:
    """Each stage that is an image of its own."""
    stage = re.split(r"^FROM ", DOCKERFILE.split(f" AS {target}\n", 1)[1], flags=re.MULTILINE)[0]
    assert "\nUSER 10001:10001\n" in stage
    assert "\nHEALTHCHECK " in stage


@pytest.mark.parametrize("target", ["gateway", "engine-cpu", "engine-gpu"])
def test_a_target_has_no_arguments(target: str) -> None:
    """Their values would be in the history of the image, and an index may have a password."""
    stage = re.split(r"^FROM ", DOCKERFILE.split(f" AS {target}\n", 1)[1], flags=re.MULTILINE)[0]
    assert not re.search(r"^ARG ", stage, flags=re.MULTILINE)


def test_what_is_copied_is_not_ignored() -> None:
    """.dockerignore lets through whatever the Dockerfile copies out of the checkout."""
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] == "!"]
    copies = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, flags=re.MULTILINE)
    sources = [source for line in copies for source in line.split()]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(source == each or source.startswith(f"{each}/") for each in kept), source


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One of the programs in deploy/images, as the Dockerfile runs it."""
    command = [sys.executable, str(DEPLOY / "images" / program), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_beside_keeps_what_is_there() -> None:
    """What both have keeps the version of the image; what is only wanted is pinned; other lines are left out."""
    there = "numpy==2.1.0\nTorch_Thing==1.0\nvllm @ file:///src\n-e git+https://example.org/x\n"
    wanted = "# made by\nnumpy==2.4.0\nuvloop==0.22.0\ntorch-thing==9.9\n"
    assert beside(there, wanted) == ["numpy==2.1.0", "Torch_Thing==1.0", "uvloop==0.22.0"]


@pytest.fixture
def server() -> Iterator[str]:
    """A server that answers 200 at /health and 404 elsewhere."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 404)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()


def test_healthy_tells_a_good_answer_from_others(server: str) -> None:
    """By its exit code, which is all that Docker looks at."""
    assert run("healthy.py", f"{server}/health").returncode == 0
    assert run("healthy.py", f"{server}/other").returncode == 1


def test_healthy_without_a_server() -> None:
    """One line, no traceback."""
    done = run("healthy.py", "http://127.0.0.1:1/health")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("http://127.0.0.1:1/health: ")


def test_healthy_sees_a_dead_mover(server: str) -> None:
    """An engine that answers is no healthy one when nobody listens where its caches would leave."""
    url = f"{server}/health"
    living = server.removeprefix("http://")
    assert run("healthy.py", url, living).returncode == 0
    done = run("healthy.py", url, "127.0.0.1:1")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("127.0.0.1:1: ")


def test_root_copies_links_with_what_they_lead_to(tmp_path: Path) -> None:
    """A library is often found by the name of a link, and its folder may be one as well."""
    (tmp_path / "usr" / "lib").mkdir(parents=True)
    (tmp_path / "lib").symlink_to("usr/lib")
    (tmp_path / "usr" / "lib" / "libx.so.1.2").write_text("library")
    (tmp_path / "usr" / "lib" / "libx.so.1").symlink_to("libx.so.1.2")
    root = tmp_path / "root"
    root_of_images.copy(tmp_path / "lib" / "libx.so.1", root)
    copied = root / tmp_path.resolve().relative_to("/") / "usr" / "lib"
    assert (copied / "libx.so.1").is_symlink()
    assert (copied / "libx.so.1").read_text() == "library"


def test_root_finds_what_python_loads() -> None:
    """At least the C library and the loader, by absolute paths that exist."""
    found = root_of_images.libraries([Path(sys.executable).resolve()])
    assert any(path.name.startswith("libc.so") for path in found)
    assert any(path.name.startswith("ld-linux") for path in found)
    assert all(path.is_file() for path in found)
