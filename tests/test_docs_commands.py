"""Every command in the documents is run: here, by a test or script that is named, or not, for a stated reason."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from prfaas.config import load_config
from tests.shell_blocks import inline_commands, shell_commands

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@dataclass(frozen=True)
class Here:
    """Run here, as it stands, in a folder with ``deploy/``, a ``prfaas.yaml`` and certificates."""


@dataclass(frozen=True)
class By:
    """Run by a test or script.

    Attributes:
        path: the file, below the root.
        words: what command and file both have.
    """

    path: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Not:
    """Run by nobody."""

    reason: str


HOSTS = Not("is for two real hosts; its parts are run by the others")
VERIFY = "deploy/verifying/"

TABLE: dict[str, Here | By | Not] = {
    # set-up and tests: what they do is in the Makefile, which every run of the tests comes through
    r"make setup": By("tests/test_setup_venv.py", ("setup",)),
    r"make (check|test|lint).*": Not("runs the tests, this one among them"),
    r"make demo": By("tests/launch/test_demo_run.py", ("demo",)),
    r"make up": By("tests/launch/test_demo_run.py", ("up",)),
    r"make images": By("Makefile", ("images",)),
    # the command line, against nothing
    r"\.venv/bin/prfaas config check prfaas\.yaml": Here(),
    r"(\.venv/bin/)?prfaas certs (certs|FOLDER) --site .*": Here(),
    r"cp deploy/local/prfaas\.yaml prfaas\.yaml": Here(),
    r"(\.venv/bin/)?prfaas plan deploy/plan/case_study\.yaml.*": Here(),
    r"prfaas plan deploy/plan/mooncake\.yaml .*": By("tests/commands/test_plan_page.py", ("plan", "mooncake")),
    r"(\.venv/bin/)?prfaas simulate deploy/simulate/case_study\.yaml": By(
        "tests/commands/test_simulate.py", ("simulate", "case_study.yaml")
    ),
    r"prfaas config schema": Here(),
    r"prfaas version \[OPTIONS\]": By("tests/test_cli.py", ("version",)),
    r"prfaas [a-z ]+( [\[\]A-Z_]+)+": By("tests/commands/test_completion.py", ("prfaas",)),  # docs/cli.md: usage lines
    # engines and gateway
    r"(\.venv/bin/)?prfaas engine --config prfaas\.yaml --site \w+( -- .*)?": By("tests/engine/pair.py", ("engine",)),
    r"(\.venv/bin/)?prfaas gateway --config prfaas\.yaml.*": By("tests/engine/site.py", ("gateway",)),
    r"(\.venv/bin/)?prfaas doctor --config prfaas\.yaml --site \w+": By("tests/commands/test_doctor.py", ("doctor",)),
    r"prfaas doctor .*": By("tests/commands/test_doctor.py", ("doctor",)),
    r"(\.venv/bin/)?prfaas profile .*": By("tests/commands/test_profile.py", ("profile",)),
    r"prfaas (un)?drain [\w-]+ --config prfaas\.yaml.*": By("tests/engine/test_fleet.py", ("drain",)),
    r"prfaas flip .*": By("tests/commands/test_flip.py", ("flip",)),
    r"prfaas (status|top|decisions) .*": By("tests/commands/test_views.py", ()),
    r"prfaas link test .*": By("tests/commands/test_link.py", ("link", "test")),
    # requests
    r"curl -i http://127\.0\.0\.1:8000/v1/chat/completions .*": By(
        "tests/gateway/test_local.py", ("/v1/chat/completions",)
    ),
    r"curl -i http://127\.0\.0\.1:8000/v1/completions .*": By("tests/engine/pair.py", ("/v1/completions",)),
    r"curl http://127\.0\.0\.1:8000/prfaas/plan": By("tests/gateway/control/test_gateway.py", ("/prfaas/plan",)),
    r"curl http://127\.0\.0\.1:8000/prfaas/requests/.*": By(
        "tests/gateway/status/test_route.py", ("/prfaas/requests/",)
    ),
    r"\.venv/bin/pytest .*test_exactness\.py.*": By("tests/engine/test_exactness.py", ("ordinary",)),
    # containers
    r"docker compose -f deploy/local/compose\.yaml up( -d)?": By(f"{VERIFY}__main__.py", ("up",)),
    r"compose=.*": By("deploy/verify", ("deploy",)),
    r"\$compose exec wan .*": By(f"{VERIFY}events.py", ("wan",)),
    r"\$compose exec gateway prfaas drain .*": By(f"{VERIFY}events.py", ("drain",)),
    r"\$compose --profile metrics up -d": Not("needs images from a registry; the files are tested in tests/deploy"),
    r"\$compose --profile metrics down --volumes": By(f"{VERIFY}__main__.py", ("down", "--volumes")),
    r"docker build --target gateway .*": By(f"{VERIFY}images.py", ("build", "gateway")),
    r"docker build --target engine-cpu .*": By(f"{VERIFY}images.py", ("build", "engine-cpu")),
    r"docker run --rm .* certs /certs .*": By("deploy/local/compose.yaml", ("certs", "/certs")),
    r"mkdir (certs|secrets) && .*": HOSTS,
    r"iptables -I DOCKER-USER .*": HOSTS,
    r"docker compose (up -d|ps|exec gateway prfaas ((un)?drain|reload) .*|up -d --no-deps .*)": HOSTS,
    # looking
    r"grep .*\.log.*": Not("looks into a log; its fields are tested in tests/observe/test_logs.py"),
}
"""A command of the documents, whole, as a pattern -> who runs it. The first pattern that fits counts."""


def listed(command: str) -> Here | By | Not | None:
    """Who runs it, None when nobody has said."""
    return next((how for pattern, how in TABLE.items() if re.fullmatch(pattern, command)), None)


def is_target(name: str) -> bool:
    """Whether `make` knows it."""
    return bool(re.search(rf"^{re.escape(name)}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


COMMANDS = sorted({command for page in PAGES for command in shell_commands(page.read_text(encoding="utf-8"))})


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_run_or_has_a_reason_why_not(command: str) -> None:
    """A command that nobody runs is one that nobody notices to be wrong."""
    how = listed(command)
    assert not command.startswith("make ") or is_target(command.split()[1])
    assert how is not None, f"add it to TABLE in {Path(__file__).name}: who runs it, or why nobody can"
    if isinstance(how, By):
        assert (ROOT / how.path).exists(), f"{how.path}, which is to run it, is gone"
        text = (ROOT / how.path).read_text(encoding="utf-8")
        missing = [word for word in how.words if word not in text or word not in command]
        assert missing == [], f"{how.path} and the command do not both have these words"


@pytest.mark.parametrize("command", [each for each in COMMANDS if isinstance(listed(each), Here)])
def test_command_does_what_it_should(command: str, place: Path) -> None:
    """What needs neither engines nor a second host is run as it is written, and ends well."""
    path = f"{place / '.venv/bin'}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-ec", command], cwd=place, env=env, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder like a checkout of somebody who follows the documents."""
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    program = programs / "prfaas"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m prfaas.cli "$@"\n')
    program.chmod(0o755)
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    shutil.copy(ROOT / "deploy/local/prfaas.yaml", tmp_path / "prfaas.yaml")
    return tmp_path


def test_the_readmes_configuration_is_accepted(tmp_path: Path) -> None:
    """Step 3 of the README, put into the file that it starts from, makes a configuration."""
    readme, file = (ROOT / "README.md").read_text(encoding="utf-8"), tmp_path / "prfaas.yaml"
    (changed,) = re.findall(r"^ *```yaml\n(.*?)^ *```", readme, re.MULTILINE | re.DOTALL)
    original = (ROOT / "deploy/local/prfaas.yaml").read_text(encoding="utf-8")
    kept = re.sub(r"^(sites|engines):\n(?:[ ].*\n|\n)*", "", original, flags=re.MULTILINE)
    file.write_text(kept + re.sub(r"^   ", "", changed, flags=re.MULTILINE))
    config = load_config(file, {})
    assert config.engines["cloud-0"].url == "https://cloud.example:8102"


INLINE = sorted({(page.name, each) for page in PAGES for each in inline_commands(page.read_text(encoding="utf-8"))})


@pytest.mark.parametrize(("page", "command"), INLINE)
def test_what_a_sentence_names_is_there(page: str, command: str) -> None:
    """`make X` is a target, `python -m X` a module, and a file of tests that is named exists."""
    words = command.split()
    if words[0] == "make":
        assert is_target(words[1])
    elif words[:2] == ["python", "-m"]:
        assert find_spec(words[2]) is not None
    else:
        assert [each for each in words if each.startswith("tests/") and not (ROOT / each).exists()] == []
