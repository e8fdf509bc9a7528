"""``prfaas status``: the whole gateway at a glance."""

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


def status(
    config: ConfigIfAny = None,
    url: GatewayUrl = None,
    key_file: KeyFile = None,
    once: Once = False,
    watch: Watch = False,
    interval_s: IntervalS = 2,
    as_json: AsJson = False,
) -> None:
    """Show sites, engines, links, queues, the controller and what became of the last requests.

    Example: prfaas status --config prfaas.yaml

    On a terminal it is drawn over until q or Ctrl-C; elsewhere, and with --json, it is shown once.
    """
    from prfaas.commands.screen import How, show
    from prfaas.commands.views.status import draw

    client = operator_client(config, url, key_file)
    show(lambda: client.get("/prfaas/status"), draw, How(once, watch, interval_s, as_json))
