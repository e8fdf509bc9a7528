"""``prfaas flip``: an engine gets its other role while it runs."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from prfaas.commands.options import (
    AsJson,
    ConfigIfAny,
    EngineName,
    GatewayUrl,
    KeyFile,
    TimeoutS,
    Wait,
    operator_client,
)
from prfaas.commands.output import tell
from prfaas.errors import PrfaasError

if TYPE_CHECKING:
    from prfaas.commands.waiting import Now
    from prfaas.gateway.operator_client import OperatorClient

Role = Annotated[
    Literal["prefill", "decode"], typer.Argument(help="What it is to do: prefill or decode.", metavar="ROLE")
]


def flip(
    engine: EngineName,
    role: Role,
    config: ConfigIfAny = None,
    url: GatewayUrl = None,
    key_file: KeyFile = None,
    wait: Wait = True,
    timeout_s: TimeoutS = 900,
    as_json: AsJson = False,
) -> None:
    """Drain an engine and give it its other role, without a restart.

    Example: prfaas flip edge-1 prefill --config prfaas.yaml

    For engines that are convertible in the configuration. prfaas undrain ENGINE calls it off while requests still run.
    """
    from prfaas.commands.waiting import follow

    client = operator_client(config, url, key_file)
    told = client.post(f"/prfaas/engines/{engine}/role", {"role": role})
    if wait:
        follow(lambda: _look(client, engine, role), timeout_s, is_quiet=as_json)
    said = f"{engine}: {role} now" if wait else f"{engine}: begins to be converted to {role}"
    tell({**told, "done": wait}, said, as_json=as_json)


def _look(client: "OperatorClient", engine: str, role: str) -> "Now":
    """How the conversion goes. Raises PrfaasError when it has ended without the role."""
    from prfaas.commands.drain import engine_of
    from prfaas.commands.waiting import Now

    plan = client.get("/prfaas/plan")
    now = engine_of(client.get("/prfaas/engines"), engine)
    if any(each["engine"] == engine for each in plan["conversions"]):
        return Now(f"{engine}: {now['state']}, requests in flight: {now['inflight']}")
    if list(now["roles"]) != [role]:
        raise PrfaasError(_why(plan, engine) or f"{engine} is {now['state']} and keeps its role")
    return Now(f"{engine}: {role}", is_over=True)


def _why(plan: Mapping[str, Any], engine: str) -> str:
    """What the history says of the end, latest first."""
    ended = (each["what"] for each in plan["changes"] if each["kind"] == "given_up")
    return next((what for what in ended if what.startswith(f"{engine} ")), "")
