"""Options and arguments that several commands have, and what they lead to."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prfaas.commands.names import engine_names
from prfaas.config import Config, load_config
from prfaas.errors import ConfigError

if TYPE_CHECKING:
    from prfaas.gateway.operator_client import OperatorClient

USUAL_CONFIG = Path("prfaas.yaml")
"""Read where no other one is named and it is there."""
RUN, OPERATE, PLAN, SET_UP = "Run", "Operate a gateway", "Plan and measure", "Set up"
"""Under which headings the commands are listed."""

ConfigPath = Annotated[
    Path, typer.Option("--config", "-c", help="The YAML file.", metavar="FILE", envvar="PRFAAS_CONFIG")
]
ConfigIfAny = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="The gateway's YAML file; prfaas.yaml if it is here.",
        metavar="FILE",
        envvar="PRFAAS_CONFIG",
    ),
]
GatewayUrl = Annotated[
    str | None,
    typer.Option(
        "--url", help="The gateway, if not at its configured host and port.", metavar="URL", envvar="PRFAAS_URL"
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key-file",
        help="The operators' key, if not gateway.operator_key_file.",
        metavar="FILE",
        envvar="PRFAAS_KEY_FILE",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
EngineName = Annotated[
    str, typer.Argument(help="Its name in the configuration.", metavar="ENGINE", autocompletion=engine_names)
]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Show how it goes, until it is done.")]
TimeoutS = Annotated[float, typer.Option("--timeout-s", min=0.1, help="How long to wait for that.", metavar="SECONDS")]
Once = Annotated[bool, typer.Option("--once", help="Show it once, also on a terminal.")]
Watch = Annotated[bool, typer.Option("--watch", help="Show it again and again, also into a pipe.")]
IntervalS = Annotated[
    float, typer.Option("--interval-s", min=0.1, max=3600, help="Between two looks.", metavar="SECONDS")
]
Folder = Annotated[Path, typer.Option("--folder", help="For the model, logs and the configuration.", metavar="FOLDER")]
VllmArgs = Annotated[list[str] | None, typer.Argument(help="After --: arguments for vLLM.", metavar="VLLM_ARGS")]


def load(path: Path) -> Config:
    """The configuration in a file, with the environment's overrides. Raises ConfigError."""
    return load_config(path, os.environ)


def config_if_any(config: Path | None, url: str | None) -> Config | None:
    """The configuration that is meant: the one named, or the usual one where no address is. Raises ConfigError."""
    if config is None and url is None and USUAL_CONFIG.is_file():
        config = USUAL_CONFIG
    return load(config) if config is not None else None


def needed_config(config: Path | None) -> Config:
    """The same where there has to be one. Raises ConfigError."""
    found = config_if_any(config, None)
    if found is None:
        raise ConfigError(f"which configuration? name it with --config; there is no {USUAL_CONFIG} here")
    return found


def operator_client(config: Path | None, url: str | None, key_file: Path | None) -> "OperatorClient":
    """Asks the gateway that is meant. Raises ConfigError."""
    from prfaas.gateway.operator_client import OperatorClient

    return OperatorClient.of(config_if_any(config, url), url, key_file)


def read_text(path: Path) -> str:
    """Raises ConfigError that names the file."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
