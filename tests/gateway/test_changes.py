"""What a new configuration changes, and what it may not change."""

from typing import Any

import pytest

from prfaas.config import Config, parse_config
from prfaas.errors import ConfigError
from prfaas.gateway.changes import changes_between
from tests.gateway.stub_engine import StubEngine
from tests.gateway.wide import SITES, tree_of


def tree() -> dict[str, Any]:
    engines = {}
    for index, name in enumerate(SITES):
        engines[name] = StubEngine()
        engines[name].url = f"http://127.0.0.1:{9000 + index}"
    return tree_of(engines)


def changed(**sections: dict[str, Any]) -> Config:
    return parse_config({**tree(), **sections})


def test_engines_are_added_removed_and_moved() -> None:
    """An engine at another address is another engine; one with other roles is not, and is named all the same."""
    engines = tree()["engines"]
    new = {**engines, "edge-2": {**engines["edge-1"], "url": "http://127.0.0.1:9010", "kv": "127.0.0.1:7191"}}
    del new["cloud-0"]
    new["edge-1"] = {**engines["edge-1"], "url": "http://127.0.0.1:9011"}
    new["edge-0"] = {**engines["edge-0"], "roles": ["prefill", "decode"]}
    changes = changes_between(parse_config(tree()), changed(engines=new, policy={"threshold_tokens": 9}))
    assert (changes.added, changes.removed, changes.moved) == (("edge-2",), ("cloud-0",), ("edge-1",))
    assert (changes.adjusted, changes.other) == (("edge-0",), ("policy",))
    assert str(changes) == "added edge-2; removed cloud-0; moved edge-1; changed edge-0, policy"


def test_same_file_changes_nothing() -> None:
    """Reading it again without a change is said to be that."""
    assert str(changes_between(parse_config(tree()), parse_config(tree()))) == "nothing changed"


def test_tenants_are_followed_but_not_their_coming_and_going() -> None:
    """Whether a key is needed at all is what the gateway was started with."""
    section = {"access": {"cache_secret": {"env": "SECRET"}}}
    none, one, two = (
        changed(**section, tenants={name: {"keys": [{"env": name}]} for name in names}) for names in ("", "a", "ab")
    )
    assert changes_between(one, two).other == ("tenants",)
    for old, new in ((none, one), (one, none)):
        with pytest.raises(ConfigError, match=r"^tenants: changed, which needs a restart"):
            changes_between(old, new)


def test_adapters_are_followed() -> None:
    """An adapter comes with restarted engines; the gateway before them goes on."""
    model = {**tree()["model"], "adapters": {"fr": "/adapters/fr"}}
    assert str(changes_between(parse_config(tree()), changed(model=model))) == "changed model.adapters"


def test_what_needs_a_restart_is_refused_key_by_key() -> None:
    """Each key has its line; nothing of such a file is followed."""
    model = {**tree()["model"], "max_model_len": 200, "adapters": {"fr": "/adapters/fr"}}
    gateway = {**tree()["gateway"], "port": 8001, "host": "127.0.0.2"}
    with pytest.raises(ConfigError) as refusal:
        changes_between(parse_config(tree()), changed(model=model, gateway=gateway))
    lines = str(refusal.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["model.max_model_len", "gateway.host", "gateway.port"]
    assert all("needs a restart" in line for line in lines)
