from typing import Any

import pytest
import yaml

from prfaas.config import Config, parse_config
from prfaas.errors import ConfigError
from tests.config.test_config import REPOSITORY, plain_tree

KEY = "key-of-acme-0123456789"


def parsed(tenants: dict[str, Any], **access: Any) -> Config:
    return parse_config({**plain_tree(), "tenants": tenants, "access": access})


def problem_of(tenants: dict[str, Any], **access: Any) -> str:
    with pytest.raises(ConfigError) as refusal:
        parsed(tenants, **access)
    return str(refusal.value)


def test_nobody_is_configured_by_default() -> None:
    """A file without tenants is as it was: open, with two classes, without CORS, one process."""
    config = parse_config(plain_tree())
    assert config.tenants == {}
    assert [each.name for each in config.access.priorities] == ["interactive", "batch"]
    assert config.access.cors_origins == ()
    assert (config.gateway.workers, config.gateway.https) == (1, None)


def test_tenants_are_read() -> None:
    """Keys of all kinds, limits and sites."""
    digest = "0" * 64
    tenant = {
        "keys": [{"file": "a.key"}, {"env": "KEY"}, {"sha256": digest}],
        "tokens_per_minute": 5,
        "sites": ["edge"],
    }
    config = parsed({"acme": tenant}, cache_secret={"file": "secret"})
    assert [key.sha256 for key in config.tenants["acme"].keys] == [None, None, digest]
    assert config.tenants["acme"].tokens_per_minute == 5
    assert config.tenants["acme"].sites == ("edge",)


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ([KEY], "tenants.acme.keys.0: Input should be a valid dictionary"),
        (KEY, "tenants.acme.keys: Input should be a valid tuple"),
        ([{"key": KEY}], "tenants.acme.keys.0.key: Extra inputs are not permitted"),
        ([{"sha256": KEY}], "tenants.acme.keys.0.sha256: String should match pattern"),
        ([{"env": f"{KEY}!"}], "tenants.acme.keys.0.env: String should match pattern"),
        ([{}], "tenants.acme.keys.0: give exactly one of file, env, sha256"),
        ([{"file": "a", "env": "B"}], "tenants.acme.keys.0: give exactly one of file, env, sha256"),
        ([], "tenants.acme.keys: Tuple should have at least 1 item"),
    ],
    ids=str,
)
def test_misplaced_key_is_not_shown(keys: object, line: str) -> None:
    """Whoever writes the key itself into the file is told where, without seeing it in a terminal or log."""
    problem = problem_of({"acme": {"keys": keys, "shares_cache": True}})
    assert problem.startswith(line)
    assert KEY not in problem


@pytest.mark.parametrize(
    ("tenant", "access", "line"),
    [
        ({}, {}, "access.cache_secret: is missing"),
        (
            {"shares_cache": True, "priorities": ["bulk"]},
            {},
            "tenants.acme.priorities: 'bulk': no such class (known: int",
        ),
        (
            {"shares_cache": True, "sites": ["moon"]},
            {},
            "tenants.acme.sites: 'moon': no such site (known: cloud, edge)",
        ),
        ({"shares_cache": True, "sites": ["cloud"]}, {}, "tenants.acme.sites: lacks 'edge', the gateway's site"),
        ({"shares_cache": True, "requests_per_minute": 0}, {}, "tenants.acme.requests_per_minute: 0: Input should be"),
        (
            {"shares_cache": True},
            {"priorities": [{"name": "a"}, {"name": "a"}]},
            "access.priorities: a, a: each class has a name of its own",
        ),
        ({"shares_cache": True}, {"cors_origins": ["app.example"]}, "access.cors_origins.0: 'app.example': String"),
        ({"shares_cache": True}, {"cache_secret": {}}, "access.cache_secret: give exactly one of file, env"),
    ],
)
def test_what_does_not_fit_is_told(tenant: dict[str, Any], access: dict[str, Any], line: str) -> None:
    """Each mistake between tenants, classes and sites is a line with its key."""
    assert problem_of({"acme": {"keys": [{"env": "KEY"}], **tenant}}, **access).splitlines()[0].startswith(line)


def test_documented_example_is_right() -> None:
    """The configuration on docs/access.md passes all checks, together with the sections that it leaves out."""
    page = (REPOSITORY / "docs" / "access.md").read_text(encoding="utf-8")
    example = yaml.safe_load(page.split("```yaml")[1].split("```")[0])
    config = parse_config({**plain_tree(), **example})
    assert config.tenants.keys() == {"acme", "umbrella"}
    assert config.gateway.workers == 2
