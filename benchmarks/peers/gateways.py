"""Gateways to compare with, each started with its own defaults, one worker, a key for clients where it has that."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.report import ROOT

KEY = "sk-benchmark"
KEY_SHA256 = hashlib.sha256(KEY.encode()).hexdigest()
PEERS = ROOT / ".venv-peers-gateway" / "bin"
PRFAAS = """\
model: {{name: tiny, path: {tokenizer}, max_model_len: 200000}}
gateway: {{port: {port}, site: edge, max_body_bytes: 67108864}}
sites: {{edge: {{tls: "off"}}, cloud: {{tls: "off"}}}}
engines:
  edge-0: {{site: edge, url: "{edge}", kv: "127.0.0.1:9"}}
  cloud-0: {{site: cloud, url: "{cloud}", kv: "127.0.0.2:9", roles: [prefill]}}
links: [{{from: cloud, to: edge}}]
policy: {{threshold_tokens: 20000}}
tenants: {{bench: {{keys: [{{sha256: {key_sha256}}}], shares_cache: true}}}}
"""
LITELLM = """\
model_list:
  - model_name: tiny
    litellm_params: {{model: openai/tiny, api_base: "{edge}/v1", api_key: {key}}}
general_settings: {{master_key: {key}}}
litellm_settings: {{callbacks: ["prometheus"], telemetry: false}}
"""


@dataclass(frozen=True)
class Server:
    """How one gateway is started, and where it says that it is ready."""

    command: tuple[str, ...]
    ready_path: str = "/health"
    environment: dict[str, str] = field(default_factory=dict)


def prfaas(folder: Path, python: str, port: int, edge: str, cloud: str, tokenizer: Path) -> Server:
    """This project's gateway, with an engine to decode and one elsewhere to prefill."""
    config = folder / "prfaas.yaml"
    config.write_text(PRFAAS.format(port=port, edge=edge, cloud=cloud, tokenizer=tokenizer, key_sha256=KEY_SHA256))
    return Server((python, "-m", "prfaas.cli", "gateway", "--config", str(config)), "/ready")


def vllm_router(port: int, edge: str, prometheus_port: int) -> Server:
    """vLLM's router (Rust)."""
    flags = ("--host", "127.0.0.1", "--port", str(port), "--worker-urls", edge, "--policy", "cache_aware")
    more = ("--prometheus-port", str(prometheus_port), "--log-level", "warning")
    return Server((str(PEERS / "vllm-router"), *flags, *more))


def sglang_router(port: int, edge: str, prometheus_port: int) -> Server:
    """SGLang's router (Rust)."""
    flags = ("--host", "127.0.0.1", "--port", str(port), "--worker-urls", edge, "--policy", "cache_aware")
    more = ("--prometheus-port", str(prometheus_port), "--log-level", "warn", "--api-key", KEY)
    return Server((str(PEERS / "sglang-router"), "launch", *flags, *more))


def litellm(folder: Path, port: int, edge: str) -> Server:
    """LiteLLM's proxy (Python): one worker."""
    config = folder / "litellm.yaml"
    config.write_text(LITELLM.format(edge=edge, key=json.dumps(KEY)))
    command = (str(PEERS / "litellm"), "--config", str(config), "--port", str(port), "--host", "127.0.0.1")
    return Server(command, "/health/liveliness", {"LITELLM_LOG": "ERROR"})
