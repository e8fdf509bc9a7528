"""The compose files: complete, alike for every service, and about files that exist. Docker is not needed."""

import re
from pathlib import Path

import pytest
import yaml

from tests.deploy.files import COMPOSE_FILES, DEPLOY, ROOT, VARIABLE, compose, dot_env, interpolated, service, services

MADE_BY_THE_OPERATOR = ("./certs", "./secrets")
TARGETS = re.findall(r"^FROM \S+ AS (\S+)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)


@pytest.mark.parametrize(("site", "name"), services())
def test_a_service_is_bounded(site: str, name: str) -> None:
    """Memory, processes and logs of every container have an end, and it cannot gain rights."""
    each = service(site, name)
    assert {"mem_limit", "pids_limit"} <= set(each)
    assert {"max-size", "max-file"} <= set(each["logging"]["options"])
    assert each["cap_drop"] == ["ALL"]
    assert each["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize(("site", "name"), services())
def test_a_service_comes_back(site: str, name: str) -> None:
    """What ends by itself is started again; what runs once only until it has worked, and not for ever: `up` waits."""
    runs_once = service(site, name).get("network_mode") == "none"
    assert service(site, name)["restart"] == ("on-failure:3" if runs_once else "unless-stopped")


@pytest.mark.parametrize(("site", "name"), services())
def test_a_service_tells_its_health(site: str, name: str) -> None:
    """By the compose file, or by the image that this repository makes."""
    each = service(site, name)
    assert "healthcheck" in each or each.get("build", {}).get("target") == "gateway"


@pytest.mark.parametrize(("site", "name"), services())
def test_the_image_can_be_built(site: str, name: str) -> None:
    """Each target is one of the Dockerfile, and its context the repository."""
    build = service(site, name).get("build")
    if build is not None:
        assert build["target"] in TARGETS
        assert (COMPOSE_FILES[site].parent / build["context"]).resolve() == ROOT.resolve()


@pytest.mark.parametrize(("site", "name"), services())
def test_a_service_runs_without_a_gpu(site: str, name: str) -> None:
    """As the connector refuses engines on GPUs today, no compose file may ask for one by itself."""
    each = service(site, name)
    assert "runtime" not in each
    assert each.get("build", {}).get("target") != "engine-gpu"


@pytest.mark.parametrize("site", ["edge", "cloud"])
def test_gpus_are_one_file_more(site: str) -> None:
    """It changes the site's engine and nothing else, and .env.example says how it is switched on."""
    path = DEPLOY / site / "compose.gpu.yaml"
    changed = yaml.safe_load(interpolated(path.read_text(encoding="utf-8"), {}))["services"]
    assert list(changed) == [f"{site}-0"]
    assert changed[f"{site}-0"]["build"] == {**service(site, f"{site}-0")["build"], "target": "engine-gpu"}
    assert "COMPOSE_FILE=compose.yaml:compose.gpu.yaml" in (DEPLOY / site / ".env.example").read_text(encoding="utf-8")


@pytest.mark.parametrize(("site", "name"), services())
def test_mounted_files_are_there(site: str, name: str) -> None:
    """Docker would make an empty folder for a file that is missing."""
    each = compose(site)
    for source in (volume.split(":")[0] for volume in service(site, name).get("volumes", ())):
        if source.startswith("."):
            assert source in MADE_BY_THE_OPERATOR or (COMPOSE_FILES[site].parent / source).exists(), source
        else:
            assert source.startswith("/") or source in each["volumes"], source


@pytest.mark.parametrize("site", ["local", "edge"])
def test_prometheus_has_what_its_configuration_names(site: str) -> None:
    """Rules, targets, Alertmanagers and the operators' key, which the key's group may read."""
    each = service(site, "prometheus")
    named = re.findall(r"[\[ ](/[\w./]+\.\w+)", (DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    targets = [Path(volume.split(":")[1]) for volume in each["volumes"]]
    assert {"/secrets/operator.key", "/etc/prometheus/alertmanagers.yaml"} < set(named)
    assert all(any(Path(path).is_relative_to(target) for target in targets) for path in named)
    assert each["group_add"] == ["10001"]


@pytest.mark.parametrize("site", ["edge", "cloud"])
def test_dot_env_has_what_the_compose_file_asks_for(site: str) -> None:
    """A variable without a default is in .env.example, and nothing is there that nobody reads."""
    used = {match[1]: match[2] for match in VARIABLE.finditer(COMPOSE_FILES[site].read_text(encoding="utf-8"))}
    assert {name for name, kind in used.items() if kind != "-"} <= set(dot_env(site))
    assert set(dot_env(site)) <= {*used, "COMPOSE_PROJECT_NAME"}


@pytest.mark.parametrize(("site", "file"), [("local", ".env"), ("edge", ".env.example"), ("cloud", ".env.example")])
def test_a_project_has_a_name_of_ours(site: str, file: str) -> None:
    """Compose would take the folder's, which is any other project's as well: `down --volumes` would delete its data."""
    assert f"COMPOSE_PROJECT_NAME=prfaas-{site}\n" in (DEPLOY / site / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("site", COMPOSE_FILES)
def test_no_version_is_given(site: str) -> None:
    """docker-compose 1.29 would then read the file by an old schema, and newer ones warn."""
    assert "version" not in compose(site)


def test_nothing_but_the_wan_is_in_both_networks() -> None:
    """So all that passes between the local stack's sites passes its shaper."""
    both = [name for site, name in services() if site == "local" and len(service(site, name).get("networks", ())) == 2]
    assert both == ["wan"]


def test_the_edge_takes_the_wan_for_the_cloud() -> None:
    """The name in the configuration leads to the shaper from the edge, and the shaper's own target is another one."""
    networks = service("local", "wan")["networks"]
    target = service("local", "wan")["command"][1]
    assert networks["edge"]["aliases"] == ["cloud-0"]
    assert service("local", "cloud-0")["networks"]["cloud"]["aliases"] == [target] != ["cloud-0"]


def test_ports_of_the_local_stack_are_this_machines() -> None:
    """It has no tenants, so nobody else may reach it."""
    ports = [port for site, name in services() if site == "local" for port in service(site, name).get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_ports_of_the_cloud_are_published_where_somebody_said() -> None:
    """Docker's rules come before the host's firewall, so an address by default would be an open door."""
    text = COMPOSE_FILES["cloud"].read_text(encoding="utf-8")
    kinds = [match[2] for match in VARIABLE.finditer(text) if match[1] == "LISTEN_ADDRESS"]
    assert kinds == ["?"] * len(service("cloud", "cloud-0")["ports"])


def test_verify_is_executable() -> None:
    """As the documentation calls it."""
    assert (DEPLOY / "verify").stat().st_mode & 0o111
