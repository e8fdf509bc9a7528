"""The controller's section, and which engines it may convert."""

from typing import Any

import pytest
import yaml

from prfaas.config import parse_config, tls_settings
from prfaas.errors import ConfigError


def split_tree(**controller: Any) -> dict[str, Any]:
    """Two convertible engines in the gateway's site, one of each role, and a remote one."""
    engines: dict[str, dict[str, Any]] = {
        name: {"site": site, "url": f"http://127.0.0.1:{8101 + at}", "kv": f"127.0.0.1:{7101 + 10 * at}"}
        for at, (name, site) in enumerate({"edge-p": "edge", "edge-d": "edge", "cloud-0": "cloud"}.items())
    }
    engines["edge-p"] |= {"roles": ["prefill"], "convertible": True}
    engines["edge-d"] |= {"roles": ["decode"], "convertible": True}
    engines["cloud-0"] |= {"roles": ["prefill"]}
    return {
        "model": {"name": "tiny", "path": "/models/tiny", "max_model_len": 4096},
        "gateway": {"site": "edge"},
        "sites": {"edge": {"tls": "off"}, "cloud": {"tls": "off"}},
        "engines": engines,
        "links": [{"from": "cloud", "to": "edge"}],
        "controller": controller,
    }


def problem(tree: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as refusal:
        parse_config(tree)
    return str(refusal.value)


def test_controller_only_tells_unless_it_is_switched_on() -> None:
    """Without a word of the file it is in shadow mode, and an engine keeps its role."""
    tree = split_tree()
    del tree["controller"], tree["engines"]["edge-d"]["convertible"]
    config = parse_config(tree)
    assert config.controller.mode == "shadow"
    assert list(config.convertible_engines()) == ["edge-p"]


@pytest.mark.parametrize(("text", "mode"), [("on", "on"), ("off", "off"), ("shadow", "shadow"), ("'on'", "on")])
def test_bare_words_of_yaml_are_modes(text: str, mode: str) -> None:
    """YAML takes a bare on or off for a truth value; the mode is meant."""
    controller = yaml.safe_load(f"mode: {text}")
    assert parse_config(split_tree(**controller)).controller.mode == mode


def test_both_engines_may_play_both_roles() -> None:
    """Configured roles are where they begin; either may come to the other."""
    config = parse_config(split_tree())
    assert list(config.engines_at("edge", "decode")) == ["edge-d"]
    assert list(config.engines_able("edge", "decode")) == list(config.engines_able("edge", "prefill"))
    assert list(config.engines_able("cloud", "decode")) == []


@pytest.mark.parametrize(
    ("engine", "change", "line"),
    [
        ("cloud-0", {"convertible": True}, "engines.cloud-0.convertible: site 'cloud' only prefills"),
        ("edge-d", {"roles": ["prefill", "decode"]}, "engines.edge-d.convertible: plays both roles already"),
    ],
)
def test_engines_without_another_role_are_not_convertible(engine: str, change: dict[str, Any], line: str) -> None:
    """Only an engine of the gateway's site with one role has another to play; the refusal says so."""
    tree = split_tree()
    tree["engines"][engine] |= change
    assert problem(tree).startswith(line)


@pytest.mark.parametrize(
    ("controller", "line"),
    [
        (
            {"min_threshold_tokens": 9, "max_threshold_tokens": 8},
            "max_threshold_tokens 8 is below min_threshold_tokens",
        ),
        (
            {"min_threshold_tokens": 5_000},
            "controller.min_threshold_tokens: 5000: longer than model.max_model_len, 4096",
        ),
        ({"interval_s": 5, "plan_interval_s": 2}, "plan_interval_s 2 is shorter than interval_s 5"),
        ({"min_decode_engines": 3}, "controller.min_decode_engines: 3: only 2 can decode"),
        ({"min_prefill_engines": 3}, "controller.min_prefill_engines: 3: only 2 can prefill"),
        ({"min_decode_engines": 0}, "controller.min_decode_engines: 0: "),
        ({"mode": "shade"}, "controller.mode: 'shade'"),
    ],
)
def test_wrong_bounds_are_named(controller: dict[str, Any], line: str) -> None:
    """A bound that cannot be kept is refused with its key or both figures."""
    assert line in problem(split_tree(**controller))


def test_several_workers_do_not_convert() -> None:
    """Each would do so on its own; the refusal says the ways out. Shadow mode, or no convertible engine, is allowed."""
    tree = split_tree(mode="on")
    tree["gateway"]["workers"] = 2
    assert problem(tree).startswith("controller.mode: 'on' with 2 gateway.workers")
    assert "'convertible' from edge-p, edge-d" in problem(tree)
    parse_config({**tree, "controller": {"mode": "shadow"}})
    for name in ("edge-p", "edge-d"):
        del tree["engines"][name]["convertible"]
    parse_config(tree)


def test_own_site_may_load_where_engines_may_come_to_prefill() -> None:
    """With decode engines alone, one of which is convertible, certificates of the own site open sessions here."""
    tree = split_tree()
    del tree["engines"]["edge-p"]
    tree["sites"] = {
        site: {"tls": {"ca": "ca.crt", "cert": f"{site}.crt", "key": f"{site}.key"}} for site in ("edge", "cloud")
    }
    for engine in tree["engines"].values():
        engine["url"] = engine["url"].replace("http:", "https:")
    names = [(tls_settings(parse_config(tree), site) or {})["decode_names"] for site in ("edge", "cloud")]
    assert names == [["edge.site.prfaas"], ["edge.site.prfaas"]]
