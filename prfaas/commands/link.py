"""``prfaas link``: how good a link between sites is."""

from typing import Annotated

import typer

from prfaas.commands.names import engine_names, site_names
from prfaas.commands.options import AsJson, ConfigIfAny, needed_config

link = typer.Typer(name="link", help="Test a link between two sites.", no_args_is_help=True)

MAX_SECONDS, MAX_MB = 10.0, 16_000
"""As a mover lets anybody probe (decision 093)."""

SiteName = Annotated[str, typer.Argument(help="Where caches come from.", metavar="SITE", autocompletion=site_names)]
To = Annotated[
    str | None,
    typer.Option(
        "--to", help="The site of this machine; the gateway's by default.", metavar="SITE", autocompletion=site_names
    ),
]
Engine = Annotated[
    str | None,
    typer.Option(
        "--engine",
        help="Measure from this engine; by default the first one that answers.",
        metavar="ENGINE",
        autocompletion=engine_names,
    ),
]
Seconds = Annotated[float, typer.Option("--seconds", min=0.1, max=MAX_SECONDS, help="Of noise over the link.")]
MaxMb = Annotated[
    int, typer.Option("--max-mb", min=1, max=MAX_MB, help="At most so many megabytes: they cost what a link costs.")
]
Connections = Annotated[int, typer.Option("--connections", min=1, max=16, help="Data connections at once.")]
AtLeast = Annotated[
    float, typer.Option("--at-least", min=0, max=1, help="Exit code 1 below this share of the configured bandwidth.")
]


@link.command("test")
def measure(
    site: SiteName,
    to: To = None,
    engine: Engine = None,
    seconds: Seconds = 2.0,
    max_mb: MaxMb = 1_000,
    connections: Connections = 8,
    at_least: AtLeast = 0.0,
    config: ConfigIfAny = None,
    as_json: AsJson = False,
) -> None:
    """Measure a link from SITE to here: round trip, bandwidth against the configured one, and what was sent again.

    Example: prfaas link test cloud --config prfaas.yaml

    Run it on a machine of the site where caches arrive, with that site's certificates. It sends noise for two seconds
    over the data connections that caches take, and takes its share of the link from them. Exit code 1: no engine
    answers, or the measurement failed.
    """
    from prfaas.commands.linking import Order, test_link
    from prfaas.launch.signals import run_until_signal

    order = Order(needed_config(config), site, to, engine, seconds, max_mb * 1_000_000, connections, at_least)
    if code := run_until_signal(lambda: test_link(order, as_json=as_json)):
        raise typer.Exit(code)
