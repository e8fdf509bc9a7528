"""A small file for `prfaas plan`, its profiles and a trace; figures as round as those of ``tests/planner/cases``."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

LOCAL = {
    "engine": "local",
    "prefill": {"rate": {"s_per_token": 2e-4}},
    "cache": {"size": {"bytes_per_token": 1000}},
    "decode": [{"batch": 10, "step_s": 0.02}],
}
REMOTE = {
    "engine": "remote",
    "prefill": {"points": [{"tokens": 1000, "seconds": 0.1}, {"tokens": 10_000, "seconds": 1.0}]},
    "cache": {"size": {"bytes_per_token": 1000}},
}


def tree(**sections: Any) -> dict[str, Any]:
    """Two local engines, a remote one, 1 Gbit/s, and a trace of three short prompts to a long one."""
    return {
        "fleet": {"local": {"profile": "local.yaml", "engines": 2}, "remote": {"profile": "remote.yaml", "engines": 1}},
        "link": {"bandwidth_gbps": 1},
        "workload": {"trace": "trace.jsonl"},
        "slo": {"token_ms": 20},
        **sections,
    }


def lines(count: int, *, every_ms: int = 250) -> Iterator[bytes]:
    """Three prompts of 1,000 tokens to one of 10,000, nothing in common, 100 tokens an answer, four a second."""
    for number in range(count):
        tokens = 10_000 if number % 4 == 3 else 1000
        request = {"timestamp": number * every_ms, "input_length": tokens, "output_length": 100}
        yield json.dumps(request).encode() + b"\n"


def folder(path: Path, **sections: Any) -> Path:
    """Write all of it into a folder; returns the file for the command."""
    for name, content in (("local", LOCAL), ("remote", REMOTE), ("plan", tree(**sections))):
        (path / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    (path / "trace.jsonl").write_bytes(b"".join(lines(41)))
    return path / "plan.yaml"
