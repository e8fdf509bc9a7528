from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from prfaas.config import json_schema, load_config, parse_config
from prfaas.errors import ConfigError

REPOSITORY = Path(__file__).resolve().parents[2]
TLS = {"ca": "ca.crt", "cert": "cloud.crt", "key": "cloud.key"}
Edit = Callable[[dict[str, Any]], object]


def plain_tree() -> dict[str, Any]:
    return {
        "model": {"name": "tiny", "path": "/models/tiny", "max_model_len": 24576},
        "gateway": {"host": "127.0.0.1", "port": 8000, "site": "edge"},
        "sites": {"edge": {"tls": False}, "cloud": {"tls": "off"}},
        "engines": {
            "edge-0": {"site": "edge", "url": "http://127.0.0.1:8101", "kv": "127.0.0.1:7101"},
            "cloud-0": {"site": "cloud", "url": "http://127.0.0.1:8102", "kv": "127.0.0.1:7111", "roles": ["prefill"]},
        },
        "links": [{"from": "cloud", "to": "edge", "bandwidth_gbps": 10, "transport": "tcp"}],
        "policy": {"name": "threshold", "threshold_tokens": 512, "remote_timeout_s": 60},
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "prfaas.yaml"
    file.write_text(yaml.safe_dump(plain_tree()))
    return file


def test_file_is_loaded(path: Path) -> None:
    """Every section of the file arrives, with defaults for what it leaves out."""
    config = load_config(path, {})
    assert config.engines["cloud-0"].roles == ("prefill",)
    assert config.engines["edge-0"].roles == ("prefill", "decode")
    assert config.engines["edge-0"].address == ("127.0.0.1", 8101)
    assert config.engines["edge-0"].kv_address == ("127.0.0.1", 7101)
    assert (config.links[0].source, config.links[0].target) == ("cloud", "edge")
    assert config.gateway.request_timeout_s == 600


def test_adapters_are_found_by_their_name(path: Path) -> None:
    """Name and path are what vLLM hashes; one may come from the environment."""
    model = load_config(path, {"PRFAAS__MODEL__ADAPTERS__FR": "/adapters/fr"}).model
    assert model.names == ("tiny", "fr")
    assert model.adapter("fr") == ("fr", "/adapters/fr")
    assert [model.adapter(name) for name in ("tiny", "de", None, 1)] == [None] * 4


@pytest.mark.parametrize("file", sorted((REPOSITORY / "deploy").glob("*/prfaas*.yaml")), ids=str)
def test_shipped_files_are_right(file: Path) -> None:
    """Every configuration that comes with the project passes all checks, those of shared ports included."""
    assert load_config(file, {}).engines


def test_engines_are_found_by_site_and_role(path: Path) -> None:
    """The decode engines of a site and the prefill engines linked to it are told apart."""
    config = load_config(path, {})
    assert list(config.engines_at("edge", "decode")) == ["edge-0"]
    assert list(config.engines_at("cloud", "decode")) == []
    assert list(config.linked_prefill_engines("edge")) == ["cloud-0"]
    assert list(config.linked_prefill_engines("cloud")) == []


def test_environment_overrides_file(path: Path) -> None:
    """A variable replaces the value of the file: scalars, lists, list items and names with a hyphen."""
    env = {
        "PRFAAS__GATEWAY__PORT": "9000",
        "PRFAAS__ENGINES__CLOUD_0__ROLES": "[prefill, decode]",
        "PRFAAS__LINKS__0__BANDWIDTH_GBPS": "2.5",
        "PRFAAS__POLICY__THRESHOLD_TOKENS": "64",
        "PRFAAS_LOG": "not ours",
    }
    config = load_config(path, env)
    assert config.gateway.port == 9000
    assert config.engines["cloud-0"].roles == ("prefill", "decode")
    assert config.links[0].bandwidth_gbps == 2.5
    assert config.policy.threshold_tokens == 64


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("PRFAAS__GATEWAY__PROT", "1", "gateway.prot: unknown key, did you mean 'port'?"),
        ("PRFAAS__LINKS__7__TO", "edge", "PRFAAS__LINKS__7__TO: there is no '7' to override"),
        ("PRFAAS__LINKS__0", "[1", "PRFAAS__LINKS__0: '[1' cannot be put there"),
        ("PRFAAS__GATEWAY__PORT__X", "1", "PRFAAS__GATEWAY__PORT__X: '1' cannot be put there"),
        ("PRFAAS__GATEWAY__PORT", "many", "gateway.port: 'many': Input should be a valid integer"),
    ],
)
def test_wrong_environment_is_refused(path: Path, variable: str, value: str, line: str) -> None:
    """An override that cannot be applied is named by its variable or its key."""
    with pytest.raises(ConfigError) as refusal:
        load_config(path, {variable: value})
    assert str(refusal.value).startswith(line)
    assert "\n" not in str(refusal.value)


def _set(*keys: Any) -> Edit:
    *parents, last, value = keys

    def edit(tree: dict[str, Any]) -> None:
        node: Any = tree
        for key in parents:
            node = node[key]
        node[last] = value

    return edit


def _away(url: str) -> Edit:
    """Certificates at both sites, and the prefill engine's server at this address."""

    def edit(tree: dict[str, Any]) -> None:
        for site in tree["sites"].values():
            site["tls"] = TLS
        tree["engines"]["cloud-0"]["url"] = url

    return edit


@pytest.mark.parametrize("url", ["https://cloud.example:8000", "http://127.0.0.1:9000"])
def test_prompts_may_leave_encrypted_or_into_a_tunnel(url: str) -> None:
    """Between sites with certificates HTTPS is fine, and so is what ends on this machine."""
    tree = plain_tree()
    _away(url)(tree)
    assert parse_config(tree).engines["cloud-0"].url == url


@pytest.mark.parametrize(
    ("edit", "line"),
    [
        (_set("polcy", 1), "polcy: unknown key, did you mean 'policy'?"),
        (_set("policy", "treshold", 1), "policy.treshold: unknown key, did you mean 'threshold_tokens'?"),
        (_set("engines", "edge-0", "rolls", 1), "engines.edge-0.rolls: unknown key, did you mean 'roles'?"),
        (_set("links", 0, "form", "edge"), "links.0.form: unknown key, did you mean 'from'?"),
        (_set("sites", "edge", 1), "sites.edge: 1: Input should be a valid dictionary"),
        (_set("model", "max_model_len", -1), "model.max_model_len: -1: Input should be greater than"),
        (_set("model", "adapters", ["fr"]), "model.adapters: ['fr']: Input should be a valid dictionary"),
        (
            _set("model", "adapters", {"fr": {"path": "/a"}}),
            "model.adapters.fr: {'path': '/a'}: Input should be",
        ),
        (_set("model", "adapters", {"fr": ""}), "model.adapters.fr: '': String should have at least 1 character"),
        (_set("model", "adapters", {"a b": "/a"}), "model.adapters.a b: 'a b': String should match"),
        (_set("model", "adapters", {"tiny": "/a"}), "model.adapters.tiny: is called like the model itself: give it"),
        (lambda tree: tree.pop("model"), "model: is missing"),
        (lambda tree: tree["engines"]["edge-0"].pop("kv"), "engines.edge-0.kv: is missing"),
        (_set("engines", "edge-0", "url", "127.0.0.1:8101"), "engines.edge-0.url: '127.0.0.1:8101': write it as http"),
        (_set("engines", "edge-0", "url", "http://h:1/v1"), "engines.edge-0.url: 'http://h:1/v1': only scheme"),
        (_set("engines", "edge-0", "kv", "7101"), "engines.edge-0.kv: '7101': write it as host:port"),
        (_set("engines", "edge-0", "kv", "h:70000"), "engines.edge-0.kv: 'h:70000': write it as host:port"),
        (_set("engines", "edge-0", "kv", "h:0"), "engines.edge-0.kv: 'h:0': write it as host:port"),
        (_set("engines", "edge-0", "site", "egde"), "engines.edge-0.site: 'egde': no such site, did you mean 'edge'?"),
        (_set("gateway", "site", "cloud"), "engines: none decodes in the gateway's site 'cloud'"),
        (_set("links", 0, "to", "moon"), "links.0.to: 'moon': no such site (known: cloud, edge)"),
        (_set("links", 0, "to", "cloud"), "links.0: 'cloud' to itself"),
        (lambda tree: tree["links"].append(tree["links"][0]), "links.1: 'cloud' to 'edge': already given as links.0"),
        (_set("engines", "cloud-0", "kv", "localhost:8101"), "engines.cloud-0.kv: port 8101 on localhost: already"),
        (_set("engines", "edge-0", "kv", "h:65535"), "engines.edge-0.kv: 'h:65535': leaves no next port"),
        (_set("gateway", "port", 7111), "engines.cloud-0.kv: port 7111 on 127.0.0.1: already taken by gateway.port"),
        (
            _set("engines", "cloud-0", "kv", "127.0.0.1:7102"),
            "engines.cloud-0.kv: port 7102 on 127.0.0.1: already taken by engines.edge-0.kv (its data port)",
        ),
        (
            _set("engines", "cloud-0", "url", "http://127.0.0.1:7102"),
            "engines.cloud-0.url: port 7102 on 127.0.0.1: already taken by engines.edge-0.kv (its data port)",
        ),
        (
            _set("policy", "remote_timeout_s", 601),
            "policy.remote_timeout_s: 601: longer than gateway.request_timeout_s",
        ),
        (_set("sites", "cloud", "tls", "on"), "sites.cloud.tls.TlsConfig: 'on'"),
        (_set("sites", "cloud", "tls", {"ca": "a", "cert": "b"}), "sites.cloud.tls.TlsConfig.key: is missing"),
        (
            _set("sites", "cloud", {}),
            "sites.cloud.tls: is missing, and links join the site to others: make certificates",
        ),
        (_set("sites", "cloud", "tls", TLS), "links.0: joins a site with 'tls: off' and one with certificates"),
        (
            _away("http://cloud.example:8000"),
            "engines.cloud-0.url: 'http://cloud.example:8000': prompts and secrets would cross to site 'cloud'",
        ),
        (_set("links", 0, "transport", "udp"), "links.0.transport: 'udp': Input should be 'tcp' or 'grpc'"),
        (_set("policy", "remote_timeout_s", 3601), "policy.remote_timeout_s: 3601: Input should be less than"),
        (_set("policy", "name", "magic"), "policy.name: 'magic': Input should be 'threshold'"),
    ],
)
def test_wrong_file_is_refused(edit: Edit, line: str) -> None:
    """Each mistake gives a line with the key path, the value and the reason."""
    tree = plain_tree()
    edit(tree)
    with pytest.raises(ConfigError) as refusal:
        parse_config(tree)
    assert str(refusal.value).splitlines()[0].startswith(line)


def test_all_mistakes_are_told_at_once() -> None:
    """Two mistakes give two lines, so that one look mends both."""
    tree = plain_tree()
    tree["gateway"]["port"] = "x"
    tree["policy"]["threshold_tokens"] = -1
    with pytest.raises(ConfigError) as refusal:
        parse_config(tree)
    assert [line.split(":")[0] for line in str(refusal.value).splitlines()] == [
        "gateway.port",
        "policy.threshold_tokens",
    ]


def test_wildcard_gateway_may_not_take_an_engines_port() -> None:
    """A gateway on 0.0.0.0 listens on the loopback address as well."""
    tree = plain_tree()
    tree["gateway"] |= {"host": "0.0.0.0", "port": 8101}
    with pytest.raises(ConfigError, match=r"engines\.edge-0\.url: port 8101"):
        parse_config(tree)


def test_same_port_on_two_hosts_is_fine() -> None:
    """Ports are unique per host only."""
    tree = plain_tree()
    tree["engines"]["cloud-0"]["url"] = "http://10.0.0.2:8101"
    assert parse_config(tree).engines["cloud-0"].address == ("10.0.0.2", 8101)


def tree_with_certificates(url: str) -> dict[str, Any]:
    """Certificates for both sites, and ``url`` for the engine in the other one."""
    tree = plain_tree()
    tls = {"ca": "ca.crt", "cert": "site.crt", "key": "site.key"}
    tree["sites"] = {"edge": {"tls": tls}, "cloud": {"tls": tls}}
    tree["engines"]["cloud-0"]["url"] = url
    return tree


def test_prompts_in_plain_text_to_another_site_are_refused() -> None:
    """Where caches are encrypted prompts are too; the one line says what to do."""
    with pytest.raises(ConfigError) as refusal:
        parse_config(tree_with_certificates("http://10.0.0.2:8000"))
    [line] = str(refusal.value).splitlines()
    assert line.startswith("engines.cloud-0.url: 'http://10.0.0.2:8000': prompts and secrets would cross")
    assert "https" in line
    assert "loopback" in line


@pytest.mark.parametrize("url", ["https://10.0.0.2:8000", "http://127.0.0.1:8102", "http://localhost:8102"])
def test_encrypted_and_tunnelled_prompts_are_fine(url: str) -> None:
    """TLS will do, and so will the end of a tunnel on this host."""
    assert parse_config(tree_with_certificates(url)).engines["cloud-0"].url == url


def test_plain_text_inside_the_gateways_site_is_fine() -> None:
    """A site is a local network: its own engines are asked over HTTP."""
    tree = tree_with_certificates("https://10.0.0.2:8000")
    tree["engines"]["edge-0"]["url"] = "http://10.0.1.2:8000"
    assert parse_config(tree).engines["edge-0"].address == ("10.0.1.2", 8000)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("gateway: {port: 1, port: 2}", "not valid YAML: key 'port' is given twice"),
        ("gateway: [", "not valid YAML"),
        ("just words", "expected sections"),
        ("!!python/object:os.system {}", "not valid YAML"),
    ],
)
def test_unusable_file_is_refused(tmp_path: Path, text: str, line: str) -> None:
    """A file that is not a mapping of sections is refused in one line that names it."""
    file = tmp_path / "prfaas.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=line) as refusal:
        load_config(file, {})
    assert str(refusal.value).startswith(str(file))
    assert "\n" not in str(refusal.value)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    """A file that is not there is named."""
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read"):
        load_config(tmp_path / "absent.yaml", {})


def test_schema_speaks_the_files_language() -> None:
    """The exported JSON schema uses the keys of the file and forbids others."""
    schema = json_schema()
    assert set(schema["$defs"]["LinkConfig"]["properties"]) == {
        "from",
        "to",
        "bandwidth_gbps",
        "rate_limit_gbps",
        "egress_budget_gb_per_day",
        "transport",
    }
    assert schema["additionalProperties"] is False
    assert "utilisation" in schema["$defs"]["LinkConfig"]["properties"]["bandwidth_gbps"]["description"]
