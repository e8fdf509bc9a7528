"""``prfaas reload``: a running gateway reads its configuration again."""

from prfaas.commands.options import AsJson, ConfigIfAny, GatewayUrl, KeyFile, operator_client
from prfaas.commands.output import tell


def reload(
    config: ConfigIfAny = None, url: GatewayUrl = None, key_file: KeyFile = None, as_json: AsJson = False
) -> None:
    """Have a running gateway read its configuration again: engines, links, policy and tenants.

    Example: prfaas reload --config prfaas.yaml
    """
    told = operator_client(config, url, key_file).post("/prfaas/reload")
    tell(told, told["changes"], as_json=as_json)
