"""Names that the shell completes, from the configuration that the line names so far."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer
import yaml


def engine_names(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Engines, with their sites and roles as help."""
    engines = _section(context, "engines")
    return [(name, _about(engine)) for name, engine in engines.items() if name.startswith(incomplete)]


def site_names(context: typer.Context, incomplete: str) -> list[str]:
    """Sites."""
    return [name for name in _section(context, "sites") if name.startswith(incomplete)]


def _section(context: typer.Context, name: str) -> Mapping[str, Any]:
    """A section of the file, unchecked: a file that is wrong elsewhere completes all the same, one that cannot be read
    completes nothing."""
    path = Path(context.params.get("config") or "prfaas.yaml")
    try:
        section = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get(name)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError):
        return {}
    return {str(key): value for key, value in section.items()} if isinstance(section, dict) else {}


def _about(engine: object) -> str:
    if not isinstance(engine, dict):
        return ""
    roles = engine.get("roles") or ("prefill", "decode")
    return f"{engine.get('site', '')}: {', '.join(map(str, roles))}"
