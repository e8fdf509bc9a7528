"""API keys: how clients show them, and how they are recognised without being kept."""

import hashlib
import hmac
import secrets
from collections.abc import Mapping

from starlette.datastructures import Headers

from prfaas.errors import RequestRejected

MAX_KEY_CHARS = 512
"""Longer than the keys of all providers; a bound on what is hashed for a stranger."""


def given_key(headers: Headers) -> str:
    """The key in ``authorization: Bearer KEY`` (OpenAI's clients) or ``x-api-key: KEY`` (Anthropic's).

    Raises:
        RequestRejected: 401 when there is none, or more than one, so that nobody in between can read another than we.
    """
    bearers, plain = headers.getlist("authorization"), headers.getlist("x-api-key")
    if not bearers and not plain:
        raise unauthorised(
            "No API key: give it as 'Authorization: Bearer KEY' or as 'x-api-key: KEY'.", "missing_api_key"
        )
    if len(bearers) > 1 or len(plain) > 1:
        raise unauthorised("More than one API key in one request.", "invalid_api_key")
    if plain and not bearers:
        key = plain[0]
    else:
        scheme, _, key = bearers[0].partition(" ")
        if scheme.lower() != "bearer":
            raise unauthorised("The authorization header is not of the form 'Bearer KEY'.", "invalid_api_key")
    key = key.strip()
    if not key or len(key) > MAX_KEY_CHARS:
        raise unauthorised(f"An API key has 1 to {MAX_KEY_CHARS} characters.", "invalid_api_key")
    return key


def unauthorised(message: str, code: str) -> RequestRejected:
    """The answer to a request without a valid key."""
    return RequestRejected(401, message, code=code)


def digest_of(key: str) -> bytes:
    """What is kept of a key: its SHA-256. Keys are long and random, so it needs neither salt nor slowness."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


class KeyRing:
    """Recognises keys by their digests.

    The table is looked up under an HMAC with a secret of this process, so the time that a look-up takes tells a
    stranger nothing about the digests, however many there are.
    """

    def __init__(self, tenants: Mapping[bytes, str]) -> None:
        """``tenants``: the digest of each key, and the name of the tenant it belongs to."""
        self._secret = secrets.token_bytes(32)
        self._tenants = {self._blinded(digest): (digest, name) for digest, name in tenants.items()}

    def tenant_of(self, key: str) -> str | None:
        """The name of the tenant that has this key, None when nobody has."""
        digest = digest_of(key)
        known, name = self._tenants.get(self._blinded(digest), (b"", ""))
        return name if hmac.compare_digest(known, digest) else None

    def is_of(self, tenants: Mapping[bytes, str]) -> bool:
        """Whether it recognises exactly these."""
        return dict(self._tenants.values()) == tenants

    def _blinded(self, digest: bytes) -> bytes:
        return hmac.digest(self._secret, digest, "sha256")
