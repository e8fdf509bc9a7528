import json
from pathlib import Path
from typing import Any

import pytest

from prfaas.config import Config, parse_config
from prfaas.errors import ConfigError
from prfaas.launch.engine_command import Command, engine_command, select_engine


def _config(model_path: str = "org/model", **link: object) -> Config:
    return parse_config(
        {
            "model": {"name": "tiny", "path": model_path, "max_model_len": 4096},
            "gateway": {"site": "edge"},
            "sites": {"edge": {"tls": "off"}, "cloud": {"tls": "off"}, "far": {}},
            "engines": {
                "edge-0": {"site": "edge", "url": "http://127.0.0.1:8101", "kv": "127.0.0.1:7101"},
                "cloud-0": {
                    "site": "cloud",
                    "url": "http://127.0.0.1:8102",
                    "kv": "127.0.0.1:7111",
                    "roles": ["prefill"],
                },
                "cloud-1": {
                    "site": "cloud",
                    "url": "http://127.0.0.1:8103",
                    "kv": "127.0.0.1:7121",
                    "roles": ["decode"],
                },
                "far-0": {"site": "far", "url": "http://127.0.0.1:8104", "kv": "127.0.0.1:7131"},
            },
            "links": [{"from": "cloud", "to": "edge", **link}],
        }
    )


def _adapted(adapters: dict[str, str], model_path: str = "org/model") -> Config:
    tree = _config(model_path).model_dump(by_alias=True)
    return parse_config({**tree, "model": {**tree["model"], "adapters": adapters}})


def _transfer_config(command: Command) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(command.argv[command.argv.index("--kv-transfer-config") + 1])
    return parsed


def _option(command: Command, name: str) -> str:
    return command.argv[command.argv.index(name) + 1]


def test_engine_serves_the_configured_model_at_its_url() -> None:
    """Model, public name, length, host and port come from the configuration."""
    command = engine_command(_config(), "edge-0")
    assert command.argv[1:3] == ("-m", "vllm.entrypoints.openai.api_server")
    options = ("--model", "--served-model-name", "--max-model-len", "--host", "--port")
    assert [_option(command, name) for name in options] == ["org/model", "tiny", "4096", "127.0.0.1", "8101"]


def test_hybrid_models_keep_their_cache_manager_and_layout() -> None:
    """What hybrid models need on both sides is pinned."""
    command = engine_command(_config(), "edge-0")
    assert "--no-disable-hybrid-kv-cache-manager" in command.argv
    assert command.env["VLLM_SSM_CONV_STATE_LAYOUT"] == "DS"


def test_connector_is_loaded_and_recomputes_failed_loads() -> None:
    """vLLM is given our connector, both roles, the engine's name and the recompute policy."""
    transfer = _transfer_config(engine_command(_config(), "edge-0"))
    extra = transfer.pop("kv_connector_extra_config")
    assert transfer == {
        "kv_connector": "PrfaasConnector",
        "kv_connector_module_path": "prfaas.engine.connector",
        "kv_role": "kv_both",
        "kv_load_failure_policy": "recompute",
        "engine_id": "edge-0",
    }
    assert extra["listen"] == "127.0.0.1:7101"


def test_a_links_rate_limit_holds_for_what_leaves_its_source() -> None:
    """All decode engines at the other end share it; engines there, and links without one, have none."""

    def limits(config: Config, name: str) -> object:
        return _transfer_config(engine_command(config, name))["kv_connector_extra_config"]["rate_limits"]

    limited = _config(rate_limit_gbps=0.98)
    assert limits(limited, "cloud-0") == [{"peers": ["edge-0"], "gbps": 0.98}]
    assert limits(limited, "edge-0") == limits(_config(), "cloud-0") == []


def test_beside_a_limited_link_one_without_limit_is_told() -> None:
    """Or a probe for its engines were held to the other's limit, as for strangers."""
    tree = _config(rate_limit_gbps=0.98).model_dump(by_alias=True)
    tree["sites"]["lab"] = tree["sites"]["edge"]
    tree["engines"]["lab-0"] = {
        **tree["engines"]["edge-0"],
        "site": "lab",
        "url": "http://127.0.0.1:8120",
        "kv": "127.0.0.1:7301",
    }
    tree["links"] = [*tree["links"], {"from": "cloud", "to": "lab", "bandwidth_gbps": 10}]
    extra = _transfer_config(engine_command(parse_config(tree), "cloud-0"))["kv_connector_extra_config"]
    assert extra["rate_limits"] == [{"peers": ["edge-0"], "gbps": 0.98}, {"peers": ["lab-0"], "gbps": 0}]


def test_decode_engines_dial_the_prefill_engines_linked_to_their_site() -> None:
    """Peers are the prefill engines of sites with a link to here: not decode engines, not unlinked sites."""
    transfer = _transfer_config(engine_command(_config(), "edge-0"))
    assert transfer["kv_connector_extra_config"]["peers"] == ["127.0.0.1:7111"]
    assert transfer["kv_connector_extra_config"]["link_gbps"] == 10


def test_prefill_engines_dial_nobody() -> None:
    """An engine without the decode role waits to be dialed."""
    transfer = _transfer_config(engine_command(_config(), "cloud-0"))
    assert transfer["kv_connector_extra_config"]["peers"] == []


def test_frames_come_over_what_the_link_says() -> None:
    """A TCP port is open where a TCP link begins, and nowhere else; gRPC is dialed where the link says so."""
    facts = {}
    for transport in ("tcp", "grpc"):
        for name in ("edge-0", "cloud-0"):
            extra = _transfer_config(engine_command(_config(transport=transport), name))["kv_connector_extra_config"]
            facts[transport, name] = (extra["serves_tcp"], extra["grpc_peers"], extra["tls"])
    assert facts == {
        ("tcp", "edge-0"): (False, [], None),
        ("tcp", "cloud-0"): (True, [], None),
        ("grpc", "edge-0"): (False, ["127.0.0.1:7111"], None),
        ("grpc", "cloud-0"): (False, [], None),
    }


def test_prefill_engines_of_the_gateways_site_serve_their_neighbours() -> None:
    """A decode engine dials the engines of its own site that only prefill; those open their port for it."""
    tree = _config().model_dump(by_alias=True)
    beside = {"site": "edge", "url": "http://127.0.0.1:8109", "kv": "127.0.0.1:7191", "roles": ["prefill"]}
    config = parse_config({**tree, "engines": {**tree["engines"], "edge-p": beside}})
    extras = {
        name: _transfer_config(engine_command(config, name))["kv_connector_extra_config"]
        for name in ("edge-0", "edge-p", "cloud-1")
    }
    assert {name: (extra["peers"], extra["serves_tcp"]) for name, extra in extras.items()} == {
        "edge-0": (["127.0.0.1:7111", "127.0.0.1:7191"], False),
        "edge-p": ([], True),
        "cloud-1": ([], True),
    }


def test_convertible_engines_can_play_either_role_without_a_restart() -> None:
    """Each may dial the other and the linked engines, and be dialed. At its start it dials what it needs then."""
    tree = _config(transport="grpc", rate_limit_gbps=1).model_dump(by_alias=True)
    for at, (name, role) in enumerate({"edge-p": "prefill", "edge-d": "decode"}.items()):
        place = {"site": "edge", "url": f"http://127.0.0.1:811{at}", "kv": f"127.0.0.1:72{at}1"}
        tree["engines"][name] = {**place, "roles": [role], "convertible": True}
    config = parse_config(tree)
    extras = {
        name: _transfer_config(engine_command(config, name))["kv_connector_extra_config"]
        for name in ("edge-0", "edge-p", "edge-d", "cloud-0", "cloud-1")
    }
    linked, prefilling, decoding = "127.0.0.1:7111", "127.0.0.1:7201", "127.0.0.1:7211"
    assert {name: (extra["peers"], extra["also_dials"], extra["serves_tcp"]) for name, extra in extras.items()} == {
        "edge-0": ([linked, prefilling], [decoding], False),
        "edge-p": ([], [linked, decoding], True),
        "edge-d": ([linked, prefilling], [], True),
        "cloud-0": ([], [], False),
        "cloud-1": ([], [], False),
    }
    assert extras["edge-p"]["grpc_peers"] == [linked]
    assert extras["cloud-0"]["rate_limits"] == [{"peers": ["edge-0", "edge-p", "edge-d"], "gbps": 1}]


def test_certificates_and_names_reach_the_connector() -> None:
    """An engine of a site with certificates is given them, and whom to expect where."""
    tree = _config().model_dump(by_alias=True)
    for site in ("edge", "cloud"):
        tree["sites"][site] = {"tls": {"ca": "ca.crt", "cert": f"{site}.crt", "key": f"{site}.key"}}
    tls = _transfer_config(engine_command(parse_config(tree), "edge-0"))["kv_connector_extra_config"]["tls"]
    assert (tls["cert"], tls["names"]["127.0.0.1:7111"]) == ("edge.crt", "cloud.site.prfaas")


def test_user_arguments_come_last() -> None:
    """Arguments of the user follow ours, so that vLLM lets them win."""
    command = engine_command(_config(), "edge-0", ["--max-model-len", "128"])
    assert command.argv[-2:] == ("--max-model-len", "128")


def test_local_models_need_no_hub(tmp_path: Path) -> None:
    """A model folder is served offline; a model of the hub is not."""
    assert engine_command(_config(str(tmp_path)), "edge-0").env["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in engine_command(_config(), "edge-0").env
    assert "HF_HUB_OFFLINE" not in engine_command(_adapted({"fr": "org/fr"}, str(tmp_path)), "edge-0").env
    assert "HF_HUB_OFFLINE" in engine_command(_adapted({"fr": str(tmp_path)}, str(tmp_path)), "edge-0").env


def test_adapters_are_served_and_known_to_the_connector() -> None:
    """Each as JSON with its parent: names and paths may contain what the short form separates them by."""
    adapters = {"fr": "/adapters/fr", "de=1": "/adapters/a,b"}
    command = engine_command(_adapted(adapters), "edge-0", ["--max-loras", "2"])
    at = command.argv.index("--lora-modules")
    modules = [json.loads(module) for module in command.argv[at + 1 : at + 3]]
    assert modules == [{"name": name, "path": path, "base_model_name": "tiny"} for name, path in adapters.items()]
    assert command.argv[at + 3].startswith("--")
    assert "--enable-lora" in command.argv
    assert _transfer_config(command)["kv_connector_extra_config"]["adapters"] == adapters


def test_without_adapters_nothing_is_said_of_them() -> None:
    """vLLM's layers for adapters cost time even where none is used."""
    assert "lora" not in " ".join(engine_command(_config(), "edge-0").argv)


@pytest.mark.parametrize(
    ("site", "name", "expected"), [(None, "cloud-1", "cloud-1"), ("edge", None, "edge-0"), ("far", "far-0", "far-0")]
)
def test_engine_is_found_by_name_or_lonely_site(site: str | None, name: str | None, expected: str) -> None:
    """A name is enough, and so is a site with one engine."""
    assert select_engine(_config(), site, name) == expected


@pytest.mark.parametrize(
    ("site", "name", "message"),
    [
        ("cloud", None, r"several engines fit site 'cloud'"),
        ("edge", "cloud-0", r"no engine has name 'cloud-0' site 'edge'"),
        (None, "edge-9", r"no engine has name 'edge-9'; configured: edge-0 \(site edge\)"),
    ],
)
def test_wrong_engine_is_refused_with_the_choices(site: str | None, name: str | None, message: str) -> None:
    """A choice that fits no engine or several says so and lists the engines."""
    with pytest.raises(ConfigError, match=message):
        select_engine(_config(), site, name)


def test_engine_is_told_where_traces_go() -> None:
    """vLLM by its option and variables, over HTTP as we do; connector and mover by their settings, with their site."""
    tree = _config().model_dump(by_alias=True)
    traces = {"endpoint": "http://collector:4318/v1/traces", "sample_ratio": 0.5, "service_name": "llm"}
    command = engine_command(parse_config({**tree, "observe": {"logs": "json", "traces": traces}}), "cloud-0")
    assert _option(command, "--otlp-traces-endpoint") == "http://collector:4318/v1/traces"
    assert command.env["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] == "http/protobuf"
    assert command.env["OTEL_SERVICE_NAME"] == "llm-engine"
    extra = _transfer_config(command)["kv_connector_extra_config"]
    assert extra["logs"] == {"style": "json", "level": "info", "engine": "cloud-0", "site": "cloud"}
    assert extra["traces"] == {
        "service": "llm-mover",
        "endpoint": "http://collector:4318/v1/traces",
        "sample_ratio": 0.5,
        "resource": {"prfaas.site": "cloud", "prfaas.engine": "cloud-0"},
    }


def test_engine_traces_nothing_unless_told() -> None:
    """Neither options nor variables."""
    command = engine_command(_config(), "cloud-0")
    assert "--otlp-traces-endpoint" not in command.argv
    assert not [name for name in command.env if name.startswith("OTEL_")]
    assert _transfer_config(command)["kv_connector_extra_config"]["traces"] is None
