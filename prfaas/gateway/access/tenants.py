"""Tenants as the gateway knows them, made from the configuration, key files and environment."""

import base64
import hashlib
import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from prfaas.config import AccessConfig, Config, KeySource, SecretSource, TenantConfig
from prfaas.errors import ConfigError, RequestRejected
from prfaas.gateway.access.keys import MAX_KEY_CHARS, digest_of
from prfaas.gateway.access.objective import soonest
from prfaas.gateway.api_request import ApiRequest

MIN_SECRET_CHARS = 16
"""Shorter ones can be guessed by trying."""
MAX_SALT_CHARS = 128
"""As much as vLLM takes."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """Someone who may use the gateway.

    Attributes:
        name: as in the configuration; empty for everybody, where no tenants are configured.
        priorities: the classes it may use, the first by default.
        sites: where its prompts and caches may be, None for anywhere.
        objectives_s: for the first token, by class; those that are missing are the policy's.
        salt_key: keeps its cached prefixes from those of others, None where they are shared. Never logged.
    """

    name: str
    priorities: tuple[str, ...]
    sites: frozenset[str] | None = None
    objectives_s: Mapping[str, float] = field(default_factory=dict)
    salt_key: bytes | None = field(default=None, repr=False)

    def salted(self, request: ApiRequest) -> ApiRequest:
        """The request with the salt that the engines see; one of the client's is part of it.

        Neither the tenant's name nor the client's salt can be read from it. Raises RequestRejected (400).
        """
        if self.salt_key is None:
            return request
        given = request.cache_salt
        if given is not None and not (isinstance(given, str) and 0 < len(given) <= MAX_SALT_CHARS):
            message = f"'cache_salt' must be a string of 1 to {MAX_SALT_CHARS} characters."
            raise RequestRejected(400, message, param="cache_salt", code="invalid_value")
        salt = hmac.digest(self.salt_key, (given or "").encode("utf-8", "surrogatepass"), "sha256")
        # vLLM forbids "/" in salts, and takes this alphabet.
        return replace(request, body={**request.body, "cache_salt": base64.urlsafe_b64encode(salt).decode()})


def load_tenants(config: Config, env: Mapping[str, str]) -> tuple[dict[str, Tenant], dict[bytes, str]]:
    """All tenants by name, and the name for the digest of each key.

    Raises:
        ConfigError: a file or variable is missing, a secret is too short, or two keys are the same.
    """
    secret = _cache_secret(config, env)
    names: dict[bytes, str] = {}
    for name, path, digest in _digests(config, env):
        if digest in names:
            raise ConfigError(f"{path}: the same key as one of tenant {names[digest]!r}: each key is given once")
        names[digest] = name
    return {name: _tenant(config, name, secret) for name in config.tenants}, names


def _tenant(config: Config, name: str, secret: bytes) -> Tenant:
    section = config.tenants[name]
    return Tenant(
        name=name,
        priorities=section.priorities or tuple(each.name for each in config.access.priorities),
        sites=None if section.sites is None else frozenset(section.sites),
        objectives_s=objectives_of(config.access, section),
        salt_key=None if section.shares_cache else hmac.digest(secret, f"cache_salt:{name}".encode(), "sha256"),
    )


def objectives_of(access: AccessConfig, tenant: TenantConfig | None = None) -> dict[str, float]:
    """The objective for the first token in each class that has one, for a tenant or for everybody."""
    own_s = tenant.first_token_slo_s if tenant else None
    objectives = {each.name: soonest(each.first_token_slo_s, own_s) for each in access.priorities}
    return {name: objective_s for name, objective_s in objectives.items() if objective_s is not None}


def _cache_secret(config: Config, env: Mapping[str, str]) -> bytes:
    if config.access.cache_secret is None:
        return b""
    return hashlib.sha256(_read(config.access.cache_secret, "access.cache_secret", env).encode()).digest()


def _digests(config: Config, env: Mapping[str, str]) -> Iterator[tuple[str, str, bytes]]:
    """The digest of each key, with its tenant's name and its path in the configuration."""
    for name, tenant in config.tenants.items():
        for index, source in enumerate(tenant.keys):
            path = f"tenants.{name}.keys.{index}"
            yield name, path, bytes.fromhex(source.sha256) if source.sha256 else digest_of(_read(source, path, env))


def _read(source: SecretSource | KeySource, path: str, env: Mapping[str, str]) -> str:
    """A secret from where it is kept; errors name the place and never the secret."""
    try:
        text = Path(source.file).read_text(encoding="utf-8") if source.file else env[source.env or ""]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise ConfigError(f"{path}.file: {source.file!r}: cannot be read: {reason}") from None
    except KeyError:
        raise ConfigError(f"{path}.env: {source.env!r}: there is no such environment variable") from None
    secret = text.strip()
    if not MIN_SECRET_CHARS <= len(secret) <= MAX_KEY_CHARS or any(char.isspace() for char in secret):
        wanted = (
            f"{MIN_SECRET_CHARS} to {MAX_KEY_CHARS} characters without spaces, for example of `openssl rand -hex 32`"
        )
        raise ConfigError(f"{path}: what {source.file or source.env!r} holds is no secret: give {wanted}")
    return secret
