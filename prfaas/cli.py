"""The command line, and the one place that wires everything together. Heavy imports happen inside the commands."""

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from prfaas import __version__
from prfaas.commands.plan import plan
from prfaas.commands.profile import profile
from prfaas.commands.simulate import simulate
from prfaas.config import NAME_PATTERN, Config, certificate_name, json_schema, load_config, tls_settings
from prfaas.errors import ConfigError, EngineUnavailable, PrfaasError

app = typer.Typer(
    name="prfaas",
    help="LLM serving whose prefill can happen in another data center: vLLM engines in several sites behind one "
    "OpenAI-compatible gateway.",
    epilog="To see it work on this machine: prfaas demo. A configuration to start from: deploy/local/prfaas.yaml.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app = typer.Typer(
    name="config", help="Check a configuration file, or print its JSON schema.", no_args_is_help=True
)
app.add_typer(config_app, name="config")
app.command()(plan)
app.command()(profile)
app.command()(simulate)

ConfigPath = Annotated[Path, typer.Option("--config", "-c", help="The YAML file.", metavar="FILE")]
Folder = Annotated[Path, typer.Option("--folder", help="For the model, logs and the configuration.", metavar="FOLDER")]
EngineName = Annotated[str, typer.Argument(help="Its name in the configuration.", metavar="ENGINE")]
GatewayUrl = Annotated[
    str | None, typer.Option("--url", help="The gateway, if not at its configured host and port.", metavar="URL")
]
VllmArgs = Annotated[list[str] | None, typer.Argument(help="After --: arguments for vLLM.", metavar="VLLM_ARGS")]


@app.command()
def gateway(
    config: ConfigPath,
    worker: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run the gateway.

    Example: prfaas gateway --config prfaas.yaml
    """
    from prfaas.observe.logs import configure
    from prfaas.observe.settings import LogSettings

    loaded = _load(config)
    configure(LogSettings(**loaded.observe.log_fields(site=loaded.gateway.site)))
    if loaded.gateway.workers > 1 and worker is None:
        from prfaas.gateway.workers import supervise

        sys.exit(supervise(loaded, [sys.executable, "-m", "prfaas.cli", "gateway", "--config", str(config)]))

    import msgspec

    from prfaas.gateway.control.make import controller_of
    from prfaas.gateway.live import ConfigSource
    from prfaas.gateway.serve import Inherited, serve
    from prfaas.transport.report import ReportClient
    from prfaas.transport.settings import TlsSettings

    def reports(config: Config) -> ReportClient:
        tls = tls_settings(config, config.gateway.site)
        return ReportClient(msgspec.convert(tls, TlsSettings) if tls else None)

    def load() -> Config:
        again = _load(config)
        controller_of(again)  # profiles are files of their own: a wrong one refuses the reload, too
        return again

    source = ConfigSource(load, reports, os.environ)
    serve(loaded, reports(loaded), source, Inherited.parse(worker) if worker else None)


@app.command()
def engine(
    config: ConfigPath,
    site: Annotated[str | None, typer.Option("--site", help="The engine's site.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="The engine, if the site has several.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Print the command instead of running it.")] = False,
    vllm_args: Annotated[
        list[str] | None, typer.Argument(help="After --: arguments for vLLM.", metavar="VLLM_ARGS")
    ] = None,
) -> None:
    """Run one vLLM engine of the configuration.

    Example: prfaas engine --config prfaas.yaml --site cloud -- --max-num-batched-tokens 2048
    """
    import shlex

    from prfaas.launch.engine_command import engine_command, select_engine

    loaded = _load(config)
    command = engine_command(loaded, select_engine(loaded, site, name), vllm_args or ())
    if show:
        print(shlex.join((*(f"{key}={value}" for key, value in command.env.items()), *command.argv)))
        return
    _require_vllm()
    os.execvpe(command.argv[0], command.argv, {**os.environ, **command.env})


@app.command()
def drain(engine: EngineName, config: ConfigPath, url: GatewayUrl = None) -> None:
    """Give an engine no new requests; running ones end.

    Example: prfaas drain edge-0 --config prfaas.yaml
    """
    from prfaas.gateway.operator_client import ask

    told = ask(_load(config), f"/prfaas/engines/{engine}/drain", url)
    print(f"{engine}: {told['state']}, requests in flight: {told['inflight']}")


@app.command()
def undrain(engine: EngineName, config: ConfigPath, url: GatewayUrl = None) -> None:
    """Give a drained engine requests again.

    Example: prfaas undrain edge-0 --config prfaas.yaml
    """
    from prfaas.gateway.operator_client import ask

    print(f"{engine}: {ask(_load(config), f'/prfaas/engines/{engine}/undrain', url)['state']}")


@app.command()
def reload(config: ConfigPath, url: GatewayUrl = None) -> None:
    """Have a running gateway read its configuration again: engines, links, policy and tenants.

    Example: prfaas reload --config prfaas.yaml
    """
    from prfaas.gateway.operator_client import ask

    print(ask(_load(config), "/prfaas/reload", url)["changes"])


@app.command()
def demo(folder: Folder = Path(".prfaas")) -> None:
    """Show a remote prefill on this machine, without a GPU.

    Starts two engines and the gateway, asks short and long questions, compares every answer with that of one engine
    alone, and stops everything. The last line is JSON; the exit code is 0 when all answers were exact.
    """
    from prfaas.launch.signals import run_until_signal

    _require_vllm()
    try:
        from prfaas.launch.demo.run import run_demo
    except ModuleNotFoundError as error:
        raise EngineUnavailable(f"the demo needs {error.name}: pip install 'prfaas[cpu,demo]'") from None
    sys.exit(run_until_signal(lambda: run_demo(folder.resolve())))


@app.command()
def up(
    folder: Folder = Path(".prfaas"),
    port: Annotated[int, typer.Option(help="For the gateway; another one is taken if it is busy.")] = 8000,
) -> None:
    """Run the demo's stack until Ctrl-C, and say how to use it."""
    from prfaas.launch.signals import run_until_signal
    from prfaas.launch.up import run_up

    _require_vllm()
    sys.exit(run_until_signal(lambda: run_up(folder.resolve(), port)))


@app.command()
def certs(
    folder: Annotated[Path, typer.Argument(help="Where they are kept.", metavar="FOLDER")],
    site: Annotated[list[str], typer.Option("--site", help="A site that needs a certificate; may be repeated.")],
    host: Annotated[
        list[str] | None,
        typer.Option(
            "--host", help="Also put into the certificates: the hosts of https urls of engines, or of proxies."
        ),
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long the certificates are valid.")] = 365,
) -> None:
    """Make certificates for sites, and at the first call the authority that signs them.

    Example: prfaas certs certs --site edge --site cloud

    Call it again to renew a site's certificate, or for another site; running engines take new files by themselves.
    """
    import datetime
    import re

    try:
        from prfaas.transport.certificates import issue
    except ModuleNotFoundError as error:
        raise EngineUnavailable(f"making certificates needs {error.name}: pip install 'prfaas[certs]'") from None
    for name in site:
        if not re.fullmatch(NAME_PATTERN, name) or name.lower() == "ca":
            raise ConfigError(f"--site {name}: not a name that a site can have here")
    names = {name: [certificate_name(name), *(host or ())] for name in dict.fromkeys(site)}
    is_new = issue(folder, names, datetime.datetime.now(datetime.UTC), days)
    print(
        f"{folder}/ca.key  the authority's key, {'new' if is_new else 'as before'}: keep it safe, no server needs it\n"
    )
    print("sites:")
    for name in names:
        print(f"  {name}:  # needs these three files on each of its hosts")
        files = {"ca": "ca.crt", "cert": f"{name}.crt", "key": f"{name}.key"}
        print(f"    tls: {json.dumps({key: str(folder / file) for key, file in files.items()})}")


@config_app.command()
def check(config: Annotated[Path, typer.Argument(help="The YAML file.", metavar="FILE")]) -> None:
    """Check a configuration file, environment overrides included.

    Example: prfaas config check prfaas.yaml
    """
    loaded = _load(config)
    sizes = {"sites": loaded.sites, "engines": loaded.engines, "links": loaded.links, "adapters": loaded.model.adapters}
    print(f"{config}: fine: {', '.join(f'{name} {len(each)}' for name, each in sizes.items())}")


@config_app.command()
def schema() -> None:
    """Print the JSON schema of the configuration file, for editors."""
    print(json.dumps(json_schema(), indent=2))


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


def _load(path: Path) -> Config:
    return load_config(path, os.environ)


def _require_vllm() -> None:
    if importlib.util.find_spec("vllm") is None:
        raise EngineUnavailable("vLLM is not installed here: run `make setup` in a checkout of prfaas")


def main() -> NoReturn:
    """Run the command line: errors of ours in one line each, exit code 2 for a wrong configuration, else 1."""
    try:
        app()
    except ConfigError as error:
        _fail("config: ", error, 2)
    except PrfaasError as error:
        _fail("", error, 1)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def _fail(prefix: str, error: PrfaasError, code: int) -> NoReturn:
    for line in str(error).splitlines():
        indented = line.startswith(" ")
        print(line if indented else f"prfaas: {prefix}{line}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
