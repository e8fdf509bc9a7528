"""``prfaas config``: the configuration file, checked and described."""

from pathlib import Path
from typing import Annotated

import typer

from prfaas.commands.options import AsJson, load
from prfaas.commands.output import print_json, tell
from prfaas.config import json_schema

config = typer.Typer(name="config", help="Check a configuration file, or print its JSON schema.", no_args_is_help=True)


@config.command()
def check(
    file: Annotated[Path, typer.Argument(help="The YAML file.", metavar="FILE", envvar="PRFAAS_CONFIG")],
    as_json: AsJson = False,
) -> None:
    """Check a configuration file, environment overrides included.

    Example: prfaas config check prfaas.yaml
    """
    loaded = load(file)
    sections = {
        "sites": loaded.sites,
        "engines": loaded.engines,
        "links": loaded.links,
        "adapters": loaded.model.adapters,
    }
    sizes = {name: len(each) for name, each in sections.items()}
    words = ", ".join(f"{name} {size}" for name, size in sizes.items())
    tell({"file": str(file), **sizes}, f"{file}: fine: {words}", as_json=as_json)


@config.command()
def schema() -> None:
    """Print the JSON schema of the configuration file, for editors.

    Example: prfaas config schema > prfaas.schema.json
    """
    print_json(json_schema())
