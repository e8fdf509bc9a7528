"""``prfaas top``: who and what loads the gateway."""

from collections.abc import Mapping
from typing import Any

from prfaas.commands.options import (
    AsJson,
    ConfigIfAny,
    GatewayUrl,
    IntervalS,
    KeyFile,
    Once,
    Watch,
    operator_client,
)


def top(
    config: ConfigIfAny = None,
    url: GatewayUrl = None,
    key_file: KeyFile = None,
    once: Once = False,
    watch: Watch = False,
    interval_s: IntervalS = 2,
    as_json: AsJson = False,
) -> None:
    """Show engines, tenants and running requests, those with the most load first.

    Example: prfaas top --config prfaas.yaml

    Tenants and requests are those of the last decisions that the gateway keeps.
    """
    from prfaas.commands.screen import How, show
    from prfaas.commands.views.top import draw, ranked

    client = operator_client(config, url, key_file)

    def look() -> Mapping[str, Any]:
        return ranked(client.get("/prfaas/status"), client.get("/prfaas/decisions")["decisions"])

    show(look, draw, How(once, watch, interval_s, as_json))
