import hashlib
from pathlib import Path
from typing import Any

import pytest
from starlette.datastructures import Headers

from prfaas.config import Config
from prfaas.errors import ConfigError, RequestRejected
from prfaas.gateway.access.keys import KeyRing, digest_of, given_key
from prfaas.gateway.access.tenants import load_tenants
from prfaas.gateway.api_request import ApiRequest
from tests.gateway.fakes import config_for

KEY, OTHER_KEY, SECRET = "key-of-acme-0123456789", "key-of-umbrella-0123456789", "a-secret-of-many-characters"
ENV = {"ACME": KEY, "UMBRELLA": OTHER_KEY, "SECRET": SECRET}


def config_with(tenants: dict[str, Any], **access: Any) -> Config:
    access = {"cache_secret": {"env": "SECRET"}, **access}
    return config_for("http://127.0.0.1:9", "http://127.0.0.2:9", tenants=tenants, access=access)


def salt_of(config: Config, tenant: str, given: object = None, env: dict[str, str] = ENV) -> Any:
    request = ApiRequest("chat", {"model": "tiny"} if given is None else {"model": "tiny", "cache_salt": given})
    return load_tenants(config, env)[0][tenant].salted(request).body.get("cache_salt")


@pytest.mark.parametrize(
    "headers",
    [{"authorization": f"Bearer {KEY}"}, {"authorization": f"bearer  {KEY} "}, {"x-api-key": KEY}],
    ids=lambda headers: next(iter(headers)),
)
def test_keys_come_in_two_headers(headers: dict[str, str]) -> None:
    """As OpenAI's clients give them, and as Anthropic's do."""
    assert given_key(Headers(headers)) == KEY


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ([], "missing_api_key"),
        ([(b"authorization", b"Basic dXNlcg==")], "invalid_api_key"),
        ([(b"authorization", b"Bearer ")], "invalid_api_key"),
        ([(b"x-api-key", b"")], "invalid_api_key"),
        ([(b"x-api-key", b"k" * 513)], "invalid_api_key"),
        ([(b"x-api-key", b"one"), (b"x-api-key", b"two")], "invalid_api_key"),
        ([(b"authorization", b"Bearer one"), (b"authorization", b"Bearer two")], "invalid_api_key"),
    ],
)
def test_requests_without_one_key_are_refused(headers: list[tuple[bytes, bytes]], code: str) -> None:
    """None, several, or something else than a key is a 401."""
    with pytest.raises(RequestRejected) as refusal:
        given_key(Headers(raw=headers))
    assert (refusal.value.status, refusal.value.code) == (401, code)


def test_ring_knows_digests_only() -> None:
    """A key is found by its digest, and neither its own digest nor a part of it passes for it."""
    ring = KeyRing({digest_of(KEY): "acme"})
    assert ring.tenant_of(KEY) == "acme"
    for wrong in ("", KEY[:-1], KEY + "0", hashlib.sha256(KEY.encode()).hexdigest()):
        assert ring.tenant_of(wrong) is None
    assert KEY not in repr(vars(ring))


def test_keys_come_from_files_variables_and_digests(tmp_path: Path) -> None:
    """All three kinds in one tenant, so that a key can be changed while the old one still works."""
    (tmp_path / "key").write_text(f"{OTHER_KEY}\n")
    digest = hashlib.sha256(b"the third").hexdigest().upper()
    keys = [{"env": "ACME"}, {"file": str(tmp_path / "key")}, {"sha256": digest}]
    _, digests = load_tenants(config_with({"acme": {"keys": keys}}), ENV)
    ring = KeyRing(digests)
    assert [ring.tenant_of(key) for key in (KEY, OTHER_KEY, "the third")] == ["acme"] * 3


@pytest.mark.parametrize(
    ("tenants", "env", "line"),
    [
        ({"acme": {"keys": [{"env": "NONE"}]}}, ENV, "tenants.acme.keys.0.env: 'NONE': there is no such environment"),
        ({"acme": {"keys": [{"file": "/nowhere/key"}]}}, ENV, "tenants.acme.keys.0.file: '/nowhere/key': cannot be"),
        ({"acme": {"keys": [{"env": "ACME"}]}}, {**ENV, "ACME": "short"}, "tenants.acme.keys.0: what 'ACME' holds"),
        (
            {"acme": {"keys": [{"env": "ACME"}]}},
            {**ENV, "SECRET": "s s" * 9},
            "access.cache_secret: what 'SECRET' hold",
        ),
        (
            {"acme": {"keys": [{"env": "ACME"}]}, "other": {"keys": [{"env": "ACME"}]}},
            ENV,
            "tenants.other.keys.0: the same key as one of tenant 'acme'",
        ),
    ],
)
def test_unusable_secrets_stop_the_start(tenants: dict[str, Any], env: dict[str, str], line: str) -> None:
    """The one line names the place, and nothing of the secret."""
    with pytest.raises(ConfigError) as refusal:
        load_tenants(config_with(tenants), env)
    assert str(refusal.value).startswith(line)
    assert not any(secret in str(refusal.value) for secret in env.values())


def test_salts_keep_tenants_apart() -> None:
    """Two tenants never have one salt, not even with the same one of their own; each has its own again and again."""
    config = config_with({"acme": {"keys": [{"env": "ACME"}]}, "umbrella": {"keys": [{"env": "UMBRELLA"}]}})
    salts = [salt_of(config, name, given) for name in ("acme", "umbrella") for given in (None, "mine", "yours")]
    assert len(set(salts)) == 6
    assert salts == [salt_of(config, name, given) for name in ("acme", "umbrella") for given in (None, "mine", "yours")]
    assert salt_of(config, "acme", salts[3]) not in salts
    assert salt_of(config, "acme", env={**ENV, "SECRET": SECRET[::-1]}) != salts[0]


def test_salts_tell_nothing_and_fit_the_engine() -> None:
    """Neither name nor own salt can be read in it; vLLM takes 128 characters, but no slash, backslash or @."""
    salt = salt_of(config_with({"acme": {"keys": [{"env": "ACME"}]}}), "acme", "mine")
    assert "acme" not in salt
    assert "mine" not in salt
    assert len(salt) <= 128
    assert not set("@/\\\x00") & set(salt)


def test_shared_cache_leaves_the_clients_salt() -> None:
    """A tenant that shares its cache has no salt but its own."""
    config = config_with({"acme": {"keys": [{"env": "ACME"}], "shares_cache": True}})
    assert salt_of(config, "acme") is None
    assert salt_of(config, "acme", "mine") == "mine"


@pytest.mark.parametrize("given", ["", 7, ["mine"], "x" * 129], ids=str)
def test_unusable_salt_is_refused(given: object) -> None:
    """What the engine would refuse does not become a salt that it takes."""
    with pytest.raises(RequestRejected) as refusal:
        salt_of(config_with({"acme": {"keys": [{"env": "ACME"}]}}), "acme", given)
    assert (refusal.value.status, refusal.value.param) == (400, "cache_salt")


def test_tenant_shows_no_secret() -> None:
    """What keeps caches apart is not in a tenant's representation, which may get into a log."""
    tenant = load_tenants(config_with({"acme": {"keys": [{"env": "ACME"}]}}), ENV)[0]["acme"]
    assert tenant.salt_key is not None
    assert repr(tenant.salt_key) not in repr(tenant)
