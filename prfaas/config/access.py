"""Who may use the gateway, and how much of it: tenants, their keys and limits, priority classes, CORS."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from prfaas.config.base import FilePath, Name, Seconds, Section

EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$")]
PerMinute = Annotated[int, Field(ge=1, le=1_000_000_000)]


class SecretSource(Section):
    """Where a secret is kept: the file that holds it, or the environment variable. Exactly one of them."""

    file: FilePath | None = None
    env: EnvName | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        _check_exactly_one(self)
        return self


class KeySource(Section):
    """Where an API key is kept, or the SHA-256 of it in hexadecimal. Exactly one of them, and never the key itself."""

    file: FilePath | None = None
    env: EnvName | None = None
    sha256: Sha256 | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        _check_exactly_one(self)
        return self


class TenantConfig(Section):
    """Someone who may use the gateway. A limit that is left out does not exist."""

    keys: Annotated[
        tuple[KeySource, ...], Field(min_length=1, max_length=16, description="Any of them will do: add, then remove.")
    ]
    priorities: Annotated[
        tuple[Name, ...],
        Field(description="The classes it may use, the first when a request names none. Empty: all, in their order."),
    ] = ()
    requests_per_minute: PerMinute | None = None
    tokens_per_minute: Annotated[PerMinute | None, Field(description="Of prompts and answers together.")] = None
    max_concurrent: Annotated[int | None, Field(ge=1, le=100_000)] = None
    sites: Annotated[
        tuple[Name, ...] | None,
        Field(min_length=1, description="Its prompts and caches stay in these. None: anywhere."),
    ] = None
    first_token_slo_s: Annotated[
        Seconds | None, Field(description="Objective for the first token; the class's counts if that is sooner.")
    ] = None
    shares_cache: Annotated[
        bool, Field(description="Its prompts may meet the cached prefixes of other tenants that share theirs.")
    ] = False


class HttpsConfig(Section):
    """The certificate, with all between it and its authority, and the key that the gateway shows to clients."""

    cert: FilePath
    key: FilePath


class PriorityConfig(Section):
    """A class of requests: how many may wait for their turn, and how long; when their first token is wanted."""

    name: Name
    max_waiting: Annotated[int, Field(ge=0, le=100_000)] = 256
    max_wait_s: Seconds = 30
    first_token_slo_s: Annotated[
        Seconds | None,
        Field(description="Objective for the first token, once it was the request's turn; None takes the policy's."),
    ] = None


class AccessConfig(Section):
    """What all tenants have in common."""

    max_running: Annotated[
        int, Field(ge=1, le=100_000, description="Requests on engines at once; further ones wait in their class.")
    ] = 512
    priorities: Annotated[
        tuple[PriorityConfig, ...], Field(min_length=1, max_length=16, description="Highest first.")
    ] = (PriorityConfig(name="interactive"), PriorityConfig(name="batch", max_wait_s=300))
    cache_secret: Annotated[
        SecretSource | None, Field(description="Keeps the tenants' caches apart; the same in all gateways of a site.")
    ] = None
    cors_origins: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=r"^(\*|https?://[^/\s,*]+)$")], ...],
        Field(max_length=64, description="Pages of these origins may call the API from a browser; '*' is any."),
    ] = ()


def access_problems(
    access: AccessConfig, tenants: Mapping[str, TenantConfig], sites: frozenset[str], decode_site: str
) -> Iterator[str]:
    """What is wrong between tenants, classes and sites."""
    classes = [each.name for each in access.priorities]
    if len(set(classes)) < len(classes):
        yield f"access.priorities: {', '.join(classes)}: each class has a name of its own"
    if access.cache_secret is None and not all(tenant.shares_cache for tenant in tenants.values()):
        yield (
            "access.cache_secret: is missing, and keeps the tenants' caches apart: give {file: FILE} or {env: NAME}, "
            "or 'shares_cache: true' to every tenant"
        )
    for name, tenant in tenants.items():
        for priority in tenant.priorities:
            if priority not in classes:
                yield f"tenants.{name}.priorities: {priority!r}: no such class (known: {', '.join(classes)})"
        for site in tenant.sites or ():
            if site not in sites:
                yield f"tenants.{name}.sites: {site!r}: no such site (known: {', '.join(sorted(sites))})"
        if tenant.sites is not None and decode_site not in tenant.sites:
            yield f"tenants.{name}.sites: lacks {decode_site!r}, the gateway's site, where every request is decoded"


def _check_exactly_one(source: SecretSource | KeySource) -> None:
    given = source.model_fields_set
    if len(given) != 1 or None in source.model_dump(include=given).values():
        raise ValueError(f"give exactly one of {', '.join(type(source).model_fields)}")
