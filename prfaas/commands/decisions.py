"""``prfaas decisions``: where requests went, why, and what became of them."""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prfaas.commands.names import engine_names
from prfaas.commands.options import AsJson, ConfigIfAny, GatewayUrl, IntervalS, KeyFile, operator_client
from prfaas.errors import ConfigError

if TYPE_CHECKING:
    from prfaas.gateway.operator_client import OperatorClient

OUTCOMES = ("running", "local", "remote", "recomputed", "unknown", "error", "cancelled", "refused")

RequestId = Annotated[
    str | None,
    typer.Argument(
        help="One request in full, with its timeline: its x-request-id.", metavar="REQUEST", show_default=False
    ),
]
Outcome = Annotated[
    list[str] | None,
    typer.Option(
        "--outcome",
        help=f"Only these; may be repeated: {', '.join(OUTCOMES)}.",
        metavar="OUTCOME",
        autocompletion=lambda incomplete: [each for each in OUTCOMES if each.startswith(incomplete)],
    ),
]
Engine = Annotated[
    str | None,
    typer.Option(
        "--engine", help="Only those that it prefills or decodes.", metavar="ENGINE", autocompletion=engine_names
    ),
]
Tenant = Annotated[str | None, typer.Option("--tenant", help="Only this tenant's.", metavar="TENANT")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="At most so many of the latest.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Then each one as it ends, until Ctrl-C.")]


def decisions(
    request: RequestId = None,
    outcome: Outcome = None,
    engine: Engine = None,
    tenant: Tenant = None,
    limit: Limit = 20,
    follow: Follow = False,
    interval_s: IntervalS = 1,
    config: ConfigIfAny = None,
    url: GatewayUrl = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Show the last decisions with their reasons and what became of them, or one request in full.

    Example: prfaas decisions --outcome recomputed --follow

    The gateway keeps the last 256 (of each worker, where there are several). With --follow, --json is a line each.
    """
    if unknown := set(outcome or ()) - set(OUTCOMES):
        raise ConfigError(f"--outcome {', '.join(sorted(unknown))}: there are {', '.join(OUTCOMES)}")
    if request is not None and follow:
        raise ConfigError("either one REQUEST, or --follow")
    client = operator_client(config, url, key_file)

    def is_asked(each: Mapping[str, Any]) -> bool:
        return (
            (not outcome or each["outcome"] in outcome)
            and (engine is None or engine in (each["decode"], each["prefill"]))
            and (tenant is None or each["tenant"] == tenant)
        )

    if request is not None:
        _show_one(client, request, as_json=as_json)
    elif follow:
        _follow(client, is_asked, limit, interval_s, as_json=as_json)
    else:
        _show(client, is_asked, limit, as_json=as_json)


def _show_one(client: "OperatorClient", request: str, *, as_json: bool) -> None:
    from prfaas.commands.output import console, print_json
    from prfaas.commands.views.request import draw

    told = client.get(f"/prfaas/requests/{request}")
    if as_json:
        print_json(told)
    else:
        screen = console()
        screen.print(draw(told, screen.width))


def _show(
    client: "OperatorClient", is_asked: Callable[[Mapping[str, Any]], bool], limit: int, *, as_json: bool
) -> None:
    """The latest, latest first."""
    from prfaas.commands.output import console, print_json
    from prfaas.commands.views.decisions import table

    found = [each for each in client.get("/prfaas/decisions")["decisions"] if is_asked(each)][:limit]
    if as_json:
        print_json({"decisions": found})
    else:
        screen = console()
        screen.print(table(found, screen.width))


def _follow(
    client: "OperatorClient",
    is_asked: Callable[[Mapping[str, Any]], bool],
    limit: int,
    interval_s: float,
    *,
    as_json: bool,
) -> None:
    """The latest that have ended, oldest first, then each that ends."""
    from prfaas.commands.output import console, print_json
    from prfaas.commands.views.decisions import line

    screen, cursor, is_first = console(), "", True
    while True:
        told = client.get("/prfaas/decisions", after=cursor)
        cursor = told["cursor"]
        ended = [each for each in told["decisions"] if each["outcome"] != "running" and is_asked(each)]
        for each in reversed(ended[:limit] if is_first else ended):
            if as_json:
                print_json(each, indent=None)
            else:
                screen.print(line(each), soft_wrap=not screen.is_terminal, no_wrap=True, overflow="ellipsis")
        screen.file.flush()
        is_first = False
        time.sleep(interval_s)  # the gateway tells only who asks
