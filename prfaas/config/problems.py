"""What is wrong with a configuration, in words: one line for each problem, with key path, value and reason."""

import difflib
import itertools
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from prfaas.config.access import access_problems
from prfaas.config.conversion import controller_problems
from prfaas.config.sections import Config

LOOPBACK = ("127.0.0.1", "localhost", "::1")
WILDCARD = ("0.0.0.0", "::")
SECRETS = frozenset({"keys", "cache_secret", "endpoint"})
"""Keys of the file whose values are never shown; a collector's endpoint may have a password in it."""


def describe(error: ErrorDetails, file: type[BaseModel] = Config) -> str:
    """One line for one validation error: key path, value, reason, and the nearest known key if it is unknown.

    ``file`` is what the file as a whole should have been.
    """
    location = error["loc"]
    path = ".".join(str(key) for key in location if key != "[key]")
    if SECRETS & {*location}:
        return f"{path}: {_reason(error)}"  # whoever mistakes the form may have written the secret itself
    if error["type"] == "missing":
        return f"{path}: is missing"
    if error["type"] == "extra_forbidden":
        return f"{path}: unknown key{_suggestion(str(location[-1]), _known_keys(location[:-1], file))}"
    return f"{path}: {shown(error['input'])}: {_reason(error)}"


def _reason(error: ErrorDetails) -> str:
    return error["msg"].removeprefix("Value error, ")


def _known_keys(location: tuple[str | int, ...], file: type[BaseModel]) -> list[str]:
    schema = file.model_json_schema()
    node: Any = schema
    for key in location:
        named = (*node.get("patternProperties", {}).values(), node.get("additionalProperties"), node.get("items"))
        node = node.get("properties", {}).get(key) or next(filter(None, named), {})
        node = next((choice for choice in node.get("anyOf", ()) if "$ref" in choice), node)
        if reference := node.get("$ref"):
            node = schema["$defs"][reference.rsplit("/", 1)[-1]]
    return list(node.get("properties", {}))


def _suggestion(key: str, known: list[str]) -> str:
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f", did you mean {nearest[0]!r}?" if nearest else f" (known: {', '.join(sorted(known)) or 'none'})"


def shown(value: Any) -> str:
    """The value as the user wrote it, short enough for one line."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def inconsistencies(config: Config) -> Iterator[str]:
    """What is wrong between sections that are each well formed."""
    sites = list(config.sites)
    named = [("gateway.site", config.gateway.site)]
    named += [(f"engines.{name}.site", engine.site) for name, engine in config.engines.items()]
    for index, link in enumerate(config.links):
        named += [(f"links.{index}.from", link.source), (f"links.{index}.to", link.target)]
        if link.source == link.target:
            yield f"links.{index}: {link.source!r} to itself: a link joins two sites"
    for path, site in named:
        if site not in config.sites:
            yield f"{path}: {site!r}: no such site{_suggestion(site, sites)}"
    for (first, one), (second, other) in itertools.combinations(enumerate(config.links), 2):
        if (one.source, one.target) == (other.source, other.target):
            yield f"links.{second}: {other.source!r} to {other.target!r}: already given as links.{first}"
    if config.model.name in config.model.adapters:
        yield f"model.adapters.{config.model.name}: is called like the model itself: give it a name of its own"
    if not config.engines_at(config.gateway.site, "decode"):
        yield f"engines: none decodes in the gateway's site {config.gateway.site!r}: give one there the role 'decode'"
    if config.policy.remote_timeout_s > config.gateway.request_timeout_s:
        yield f"policy.remote_timeout_s: {config.policy.remote_timeout_s:g}: longer than gateway.request_timeout_s"
    yield from controller_problems(config)
    yield from _missing_certificates(config)
    yield from _plain_prompts(config)
    yield from _shared_ports(config)
    yield from access_problems(config.access, config.tenants, frozenset(config.sites), config.gateway.site)


def _missing_certificates(config: Config) -> Iterator[str]:
    """Caches travel encrypted between sites, unless both say otherwise."""
    linked = dict.fromkeys(site for link in config.links for site in (link.source, link.target))
    for site in linked:
        if site in config.sites and config.sites[site].tls is None:
            yield (
                f"sites.{site}.tls: is missing, and links join the site to others: make certificates with "
                f"'prfaas certs FOLDER --site {site}' and give ca, cert and key, or 'tls: off' for plain text"
            )
    for index, link in enumerate(config.links):
        ends = [config.sites[site].tls for site in (link.source, link.target) if site in config.sites]
        if "off" in ends and len({end == "off" for end in ends}) == 2 and None not in ends:
            yield f"links.{index}: joins a site with 'tls: off' and one with certificates: both have them or neither"


def _plain_prompts(config: Config) -> Iterator[str]:
    """The gateway sends prompts and the transfers' secrets to engines of other sites, encrypted as their caches are."""
    for name, engine in config.engines.items():
        is_near = engine.site == config.gateway.site or engine.address[0] in LOOPBACK
        is_plain_text_wanted = engine.site in config.sites and config.sites[engine.site].tls == "off"
        if not (is_near or is_plain_text_wanted or engine.url.startswith("https://")):
            yield (
                f"engines.{name}.url: {engine.url!r}: prompts and secrets would cross to site {engine.site!r} in plain "
                "text: make it https, or tunnel it and give the tunnel's end on the loopback interface"
            )


def _shared_ports(config: Config) -> Iterator[str]:
    """Listeners that want the same port of the same host; a wildcard host is every address of this machine."""
    listeners = [("gateway.port", (config.gateway.host, config.gateway.port))]
    for name, engine in config.engines.items():
        kv_host, kv_port = engine.kv_address
        listeners += [(f"engines.{name}.url", engine.address), (f"engines.{name}.kv", (kv_host, kv_port))]
        listeners.append((f"engines.{name}.kv (its data port)", (kv_host, kv_port + 1)))
        if kv_port == 65_535:
            yield f"engines.{name}.kv: {engine.kv!r}: leaves no next port, which the data of the transfers takes"
    for (first, one), (second, other) in itertools.combinations(listeners, 2):
        if one[1] == other[1] and _same_host(one[0], other[0]):
            yield f"{second}: port {other[1]} on {other[0]}: already taken by {first}"


def _same_host(one: str, other: str) -> bool:
    if one in WILDCARD or other in WILDCARD:
        return {one, other} <= {*LOOPBACK, *WILDCARD}
    return one == other or (one in LOOPBACK and other in LOOPBACK)
