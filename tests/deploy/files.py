"""The files in deploy/ as the tests read them."""

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
COMPOSE_FILES = {name: DEPLOY / name / "compose.yaml" for name in ("local", "edge", "cloud")}
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def dot_env(site: str) -> dict[str, str]:
    """What .env.example of a site sets; nothing where there is none."""
    path = DEPLOY / site / ".env.example"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def interpolated(text: str, variables: dict[str, str]) -> str:
    """With compose's ``${NAME:-default}`` and ``${NAME:?message}`` filled in."""
    return VARIABLE.sub(lambda match: variables.get(match[1]) or (match[3] if match[2] == "-" else "") or "", text)


def compose(site: str) -> dict[str, Any]:
    """A compose file as plain values, its variables from .env.example."""
    tree: dict[str, Any] = yaml.safe_load(interpolated(COMPOSE_FILES[site].read_text(encoding="utf-8"), dot_env(site)))
    return tree


def services() -> list[tuple[str, str]]:
    """Site and name of every service."""
    return [(site, name) for site in COMPOSE_FILES for name in compose(site)["services"]]


def service(site: str, name: str) -> dict[str, Any]:
    """One of them."""
    found: dict[str, Any] = compose(site)["services"][name]
    return found
