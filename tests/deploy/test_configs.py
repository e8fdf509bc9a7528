"""The configurations in deploy/ are valid, with what the compose files override, and agree with those."""

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from prfaas.config import load_config
from prfaas.config.sections import Config
from prfaas.gateway.changes import FOLLOWED
from tests.deploy.files import COMPOSE_FILES, DEPLOY, compose, service

CONFIGS = {site: DEPLOY / site / "config" / "prfaas.yaml" for site in COMPOSE_FILES}


def loaded(site: str, name: str) -> Config:
    """As the service sees it."""
    env = {key: str(value) for key, value in service(site, name).get("environment", {}).items()}
    return load_config(CONFIGS[site], env)


def configured() -> list[tuple[str, str]]:
    """Site and name of every service that reads a configuration."""
    return [
        (site, name)
        for site in CONFIGS
        for name, each in compose(site)["services"].items()
        if any(":/etc/prfaas" in volume for volume in each["volumes"])
    ]


@pytest.mark.parametrize(("site", "name"), configured())
def test_the_configuration_is_valid(site: str, name: str) -> None:
    """With the overrides of .env."""
    config = loaded(site, name)
    assert name == "gateway" or name in config.engines


@pytest.mark.parametrize(("site", "name"), configured())
def test_the_mounted_configuration_is_the_tested_one(site: str, name: str) -> None:
    """Each site's services read the file of their site, by its folder: the mount of a file alone would go on showing
    the old one when an editor or git puts a new one in its place, and `prfaas reload` would change nothing."""
    [source] = [v.split(":")[0] for v in service(site, name)["volumes"] if ":/etc/prfaas" in v]
    assert (DEPLOY / site / source).resolve() == CONFIGS[site].parent.resolve()


@pytest.mark.parametrize(("site", "name"), configured())
def test_no_variable_hides_what_a_reload_follows(site: str, name: str) -> None:
    """What is changed in the file of a running gateway counts: only sections that need a restart come from .env."""
    overridden = {key.split("__")[1].lower() for key in service(site, name).get("environment", {}) if "__" in key}
    assert not overridden & FOLLOWED


def test_both_sites_have_the_same_file() -> None:
    """Two that differ would be a fleet whose halves disagree."""
    assert CONFIGS["edge"].read_bytes() == CONFIGS["cloud"].read_bytes()


def test_published_ports_are_the_configured_ones() -> None:
    """What the edge dials is what the cloud's host passes on: HTTP, control, and data at the port after it."""
    engine = loaded("cloud", "cloud-0").engines["cloud-0"]
    ports = [port.split(":", 1)[1] for port in service("cloud", "cloud-0")["ports"]]
    http, control = engine.address[1], engine.kv_address[1]
    assert ports == [f"{http}:{http}", f"{control}-{control + 1}:{control}-{control + 1}"]


@pytest.mark.parametrize(("site", "name"), [each for each in configured() if each[1] != "gateway"])
def test_an_engines_health_is_its_movers_too(site: str, name: str) -> None:
    """Both are asked at their configured addresses."""
    engine = loaded(site, name).engines[name]
    check = service(site, name)["healthcheck"]["test"]
    assert check[:3] == ["CMD", "healthy", f"{engine.url}/health"]
    assert check[-1] == engine.kv


def test_the_wan_forwards_the_configured_ports() -> None:
    """The same three in the local stack."""
    engine = loaded("local", "cloud-0").engines["cloud-0"]
    control = engine.kv_address[1]
    assert service("local", "wan")["command"][2:5] == [str(p) for p in (engine.address[1], control, control + 1)]


@pytest.mark.parametrize(("site", "name"), configured())
def test_every_file_that_a_service_names_is_mounted(site: str, name: str) -> None:
    """Certificates, keys and configuration lie in folders that the container has."""
    targets = [Path(volume.split(":")[1]) for volume in service(site, name)["volumes"]]
    words = re.findall(r"/(?:certs|secrets|etc)/[\w./-]+", str(service(site, name).get("command", "")))
    assert all(any(Path(word).is_relative_to(target) for target in targets) for word in words)


@pytest.mark.parametrize("site", ["edge", "cloud"])
def test_the_other_sites_engines_have_an_address(site: str) -> None:
    """Each engine that is dialed from the edge has a line in extra_hosts."""
    if site == "edge":
        known = {line.split(":")[0] for line in service("edge", "gateway")["extra_hosts"]}
        engines = loaded("edge", "gateway").engines
        assert {urlsplit(each.url).hostname for each in engines.values() if each.site == "cloud"} <= known
