"""`prfaas doctor` and the start of servers, as they are typed: exit codes, the document, bad input in one line each."""

import asyncio
import datetime
import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # has no types
import pytest
import yaml

from prfaas.config import parse_config
from prfaas.doctor.report import SCHEMA
from prfaas.transport.certificates import issue, make_authority, write_authority
from tests.doctor.stage import http, mover, site_tree
from tests.doctor.test_machine import FakeNvml
from tests.ports import free_port

Run = Callable[..., int]
NOW = datetime.datetime.now(datetime.UTC)


def write(folder: Path, tree: dict[str, Any]) -> Path:
    path = folder / "prfaas.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def with_certificates(folder: Path, *, days: int = 365, made: datetime.datetime = NOW) -> Path:
    """A configuration of two sites whose certificates are valid for so many days."""
    issue(folder, {site: [f"{site}.site.prfaas"] for site in ("edge", "cloud")}, made, days)
    return write(folder, site_tree(folder))


def told(run: Run, capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any], list[str]]:
    """Exit code, document and the codes of all findings."""
    code = run("doctor", "--json", *arguments)
    document = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, SCHEMA)
    return code, document, [each["code"] for check in document["checks"] for each in check["findings"]]


def test_nothing_but_notes_is_fine(run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A site of this machine before its first start: exit code 0, whatever disks this machine has."""
    code, document, codes = told(run, capsys, "--config", with_certificates(tmp_path), "--no-probe")
    assert [each for each in codes if not each.startswith("machine.")] == ["engines.not_started"] * 2
    assert (code == 0) is document["is_fine"]
    assert document["site"] == "edge"
    names = [check["name"] for check in document["checks"]]
    assert names == ["configuration", "certificates", "machine", "gpus", "names", "ports", "engines"]


def test_text_has_what_why_and_what_to_type(run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """For people, an expired certificate; exit code 1."""
    path = with_certificates(tmp_path, days=10, made=NOW - datetime.timedelta(days=20))
    assert run("doctor", "--config", path, "--no-probe") == 1
    text = capsys.readouterr().out
    assert "edge.crt: expired on" in text
    assert "why   every handshake between sites fails" in text
    assert "do    prfaas certs FOLDER --site edge" in text


def test_warnings_count_where_asked_strictly(run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A certificate in its last days: fine today, and not for a scheduled look."""
    path = with_certificates(tmp_path, days=10, made=NOW - datetime.timedelta(days=8))
    assert run("doctor", "--config", path, "--no-probe") == 0
    assert run("doctor", "--config", path, "--no-probe", "--strict") == 1
    capsys.readouterr()


def test_a_typo_is_a_finding_with_the_nearest_key(run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Nothing else can be looked at then: exit code 2, and the document all the same."""
    tree = site_tree()
    tree["gateway"]["prot"] = tree["gateway"].pop("port")
    code, document, codes = told(run, capsys, "--config", write(tmp_path, tree))
    assert (code, codes) == (2, ["config.wrong"])
    [one] = document["checks"][0]["findings"]
    assert one["where"] == "gateway.prot"
    assert "did you mean 'port'" in one["what"]


@pytest.mark.parametrize("arguments", [("--config", "/no/such/file.yaml"), ("--site", "moon")])
def test_what_cannot_be_looked_at(
    run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: tuple[str, str]
) -> None:
    """No file, no such site: exit code 2."""
    code, _, codes = told(run, capsys, "--config", write(tmp_path, site_tree()), *arguments)
    assert (code, codes) == (2, ["config.wrong"])


def test_files_that_the_configuration_names(run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A key of operators that is too short, a state that is none, a model that is not here: each is told."""
    (tmp_path / "key").write_text("short")
    (tmp_path / "state").write_text("{")
    tree = site_tree()
    tree["gateway"] |= {"operator_key_file": f"{tmp_path}/key", "state_file": f"{tmp_path}/state"}
    tree["model"]["path"] = f"{tmp_path}/no-model"
    code, document, codes = told(run, capsys, "--config", write(tmp_path, tree), "--no-probe")
    assert (code, codes[:3]) == (1, ["config.file"] * 3)
    where = {each["where"] for each in document["checks"][0]["findings"]}
    assert where == {"gateway.operator_key_file", "gateway.state_file", "model.path"}


async def test_a_site_that_runs_is_measured(tmp_path: Path) -> None:
    """Two engines with TLS, and the link between them: a process of its own finds nothing but the modest bandwidth."""
    path = with_certificates(tmp_path)
    config = parse_config(yaml.safe_load(path.read_text()))
    with mover(config, "edge-0"), mover(config, "cloud-0"):
        async with http(config, "edge-0", "cloud-0"):
            argv = (sys.executable, "-m", "prfaas.cli", "doctor", "--json", "--config", str(path))
            process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
            output, _ = await process.communicate()
    document = json.loads(output)
    codes = [each["code"] for check in document["checks"] for each in check["findings"]]
    assert [each for each in codes if not each.startswith("machine.")] == ["links.fast"]
    figures = document["checks"][-1]["figures"]
    assert figures["cloud to edge: gbps"] > 0.01
    assert figures["cloud to edge: rtt_ms"] > 0


def start(run: Run, capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Exit code and the one line of a server that does not start."""
    code = run(*arguments)
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("prfaas: ")]
    return code, line


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM counts as installed, and nothing may start it."""
    monkeypatch.setattr("prfaas.commands.engine.require_vllm", lambda: None)
    monkeypatch.setattr("os.execvpe", lambda *_: pytest.fail("the engine was started"))


@pytest.mark.usefixtures("vllm")
@pytest.mark.parametrize("command", [("gateway",), ("engine", "--site", "edge")])
@pytest.mark.parametrize("bad", ["typo", "wrong authority", "port in use", "full disk"])
def test_bad_input_at_a_start_is_one_line(
    run: Run,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    command: tuple[str, ...],
    bad: str,
) -> None:
    """Each is named by gateway and engine, with the way out, and neither starts."""
    path = with_certificates(tmp_path)
    tree = yaml.safe_load(path.read_text())
    gateway_port, engine_port = tree["gateway"]["port"], int(tree["engines"]["edge-0"]["url"].rpartition(":")[2])
    port = gateway_port if command[0] == "gateway" else engine_port
    expected = {
        "typo": "did you mean 'threshold_tokens'?",
        "wrong authority": "is not accepted by whoever believes",
        "port in use": str(port),
        "full disk": "0 MB free",
    }[bad]
    if bad == "typo":
        path = write(tmp_path, {**tree, "policy": {"treshold_tokens": 3}})
    elif bad == "wrong authority":
        write_authority(tmp_path, make_authority(NOW))
    elif bad == "full disk":
        full = SimpleNamespace(f_bavail=0, f_frsize=4096, f_files=0, f_favail=0)
        monkeypatch.setattr("os.statvfs", lambda folder: full)
        monkeypatch.setattr("prfaas.doctor.start.engine_folders", lambda: {"/tmp": "sockets"})  # one disk, one line
        tree["gateway"]["workers"] = 2  # whose metrics go to the disk
        path = write(tmp_path, tree)
    taken = port if bad == "port in use" else free_port()
    with socket.create_server(("127.0.0.1", taken)):
        code, line = start(run, capsys, *command, "--config", path)
    assert code == 2
    assert line.startswith("prfaas: config: ")
    assert expected in line


def test_a_full_disk_beneath_the_state_is_said_and_the_gateway_starts(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A host that comes back with a full disk has to serve: one line on the way, then the gateway."""
    started: list[Any] = []
    monkeypatch.setattr("prfaas.gateway.serve.serve", lambda *arguments: started.append(arguments))
    full = SimpleNamespace(f_bavail=0, f_frsize=4096, f_files=0, f_favail=0)
    monkeypatch.setattr("os.statvfs", lambda folder: full)
    tree = site_tree()
    tree["gateway"]["state_file"] = str(tmp_path / "state.json")
    assert run("gateway", "--config", write(tmp_path, tree)) == 0
    [line] = [line for line in capsys.readouterr().err.splitlines() if "0 MB free" in line]
    assert f"{tmp_path}: 0 MB free (gateway.state_file)" in line
    assert f"du -xh {tmp_path}" in line
    assert len(started) == 1


@pytest.mark.usefixtures("vllm")
@pytest.mark.parametrize("arguments", [("-tp", "2"), ("--pipeline_parallel_size=2",)])
def test_more_than_one_worker_is_one_line(
    run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """The connector would say so in a stack trace, once the model is loaded."""
    path = write(tmp_path, site_tree())
    code, line = start(run, capsys, "engine", "--site", "edge", "--config", path, "--", *arguments)
    assert code == 2
    assert "-parallel-size 2 is refused: leave it out" in line


@pytest.mark.usefixtures("vllm")
def test_no_gpu_is_one_line(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An engine that asks for a GPU, on a machine without a driver."""
    monkeypatch.setattr("prfaas.doctor.start.load_nvml", lambda: FakeNvml(has_driver=False))
    path = write(tmp_path, site_tree(gpus=1))
    code, line = start(run, capsys, "engine", "--site", "edge", "--config", path)
    assert code == 2
    assert "engines.edge-0: 1 GPU asked for, none here" in line


def test_an_expired_certificate_is_said_and_the_engine_starts(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One line on the way, then vLLM."""
    monkeypatch.setattr("prfaas.commands.engine.require_vllm", lambda: None)
    started: list[Any] = []
    monkeypatch.setattr("os.execvpe", lambda *arguments: started.append(arguments))
    path = with_certificates(tmp_path, days=10, made=NOW - datetime.timedelta(days=20))
    assert run("engine", "--site", "edge", "--config", path) == 0
    line = next(line for line in capsys.readouterr().err.splitlines() if "edge.crt" in line)
    assert line.startswith("prfaas: warning: sites.edge.tls.cert: ")
    assert len(started) == 1
