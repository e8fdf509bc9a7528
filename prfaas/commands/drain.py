"""``prfaas drain`` and ``prfaas undrain``: whether an engine gets new requests."""

from collections.abc import Mapping
from typing import Any

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


def drain(
    engine: EngineName,
    config: ConfigIfAny = None,
    url: GatewayUrl = None,
    key_file: KeyFile = None,
    wait: Wait = False,
    timeout_s: TimeoutS = 600,
    as_json: AsJson = False,
) -> None:
    """Give an engine no new requests; running ones end.

    Example: prfaas drain edge-0 --config prfaas.yaml --wait

    With --wait it ends when the engine is idle, so that it can be stopped.
    """
    from prfaas.commands.waiting import Now, follow

    client = operator_client(config, url, key_file)
    told = client.post(f"/prfaas/engines/{engine}/drain")
    if wait:

        def look() -> Now:
            nonlocal told
            listing = client.get("/prfaas/engines")
            told = {**engine_of(listing, engine), "silent_workers": listing.get("silent_workers", 0)}
            if told["state"] == "removed":
                raise PrfaasError(f"{engine} was taken out of the configuration: nobody counts what it still works on")
            if told["state"] not in ("draining", "drained"):
                raise PrfaasError(f"{engine} is {told['state']}: it was undrained meanwhile, and takes new requests")
            return Now(_words(told), is_over=told["state"] == "drained")

        follow(look, timeout_s, is_quiet=as_json)
    tell(told, _words(told), as_json=as_json)


def undrain(
    engine: EngineName,
    config: ConfigIfAny = None,
    url: GatewayUrl = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Give a drained engine requests again.

    Example: prfaas undrain edge-0 --config prfaas.yaml
    """
    told = operator_client(config, url, key_file).post(f"/prfaas/engines/{engine}/undrain")
    tell(told, f"{engine}: {told['state']}", as_json=as_json)


def engine_of(told: Mapping[str, Any], name: str) -> dict[str, Any]:
    """One engine of the listing; one that a reload has removed meanwhile takes nothing new."""
    removed = {"name": name, "state": "removed", "inflight": 0, "roles": []}
    return next((dict(each) for each in told["engines"] if each["name"] == name), removed)


def _words(told: Mapping[str, Any]) -> str:
    silent = told.get("silent_workers", 0)  # an older gateway does not say
    missing = f" (workers of the gateway that do not answer: {silent})" if silent else ""
    return f"{told['name']}: {told['state']}, requests in flight: {told['inflight']}{missing}"
