"""Engines: real movers and a stand-in for vLLM's API, well and wrong in every way that is told apart."""

import socket
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from prfaas.config import Config, parse_config
from prfaas.doctor import asking
from prfaas.doctor.asking import HttpAnswer, MoverAnswer
from prfaas.doctor.engine_flags import judge_facts, judge_http
from prfaas.doctor.engines import CLOCK_S, Seen, check_engines, judge_agreement, judge_engine
from prfaas.doctor.finding import Checked
from prfaas.doctor.network import Reached
from prfaas.doctor.scope import Scope
from prfaas.transport.certificates import make_authority
from prfaas.transport.probe import Answer
from prfaas.types import Fingerprint
from prfaas.wire.description import Description
from tests.doctor.stage import GOOD_FACTS, StubVllm, codes, http, mover, site_tree, sites
from tests.ports import free_port
from tests.transport.site_certificates import NOW, make_sites, write_site


async def look(config: Config, site: str = "edge") -> Checked:
    return await check_engines(Scope(config, site), None)


async def test_two_sites_that_fit_are_fine() -> None:
    """Both engines answer, run as they should and agree: nothing is found, and each is told."""
    config = sites()
    with mover(config, "edge-0"), mover(config, "cloud-0"):
        async with http(config, "edge-0", "cloud-0"):
            checked = await look(config)
    assert checked.findings == ()
    assert [line.partition(":")[0] for line in checked.seen] == ["edge-0", "cloud-0"]
    assert all("vLLM 0.32.0, connector at" in line for line in checked.seen)


async def test_a_site_of_prefill_engines_looks_at_its_own() -> None:
    """No link leads there, so nobody else's engine is asked."""
    config = sites()
    with mover(config, "cloud-0"):
        async with http(config, "cloud-0"):
            checked = await look(config, "cloud")
    assert checked.findings == ()
    assert len(checked.seen) == 1


async def test_engines_that_do_not_run_yet_are_notes() -> None:
    """Before the first start: one note for each engine of this machine, with the command."""
    config = sites()
    checked = await look(config)
    assert codes(checked) == ["engines.not_started"] * 2
    assert "prfaas engine -c FILE --name cloud-0" in checked.findings[1].way_out


async def test_an_api_without_the_connector_is_found() -> None:
    """vLLM runs, and nobody listens at its kv endpoint: it was started without prfaas."""
    config = sites()
    with mover(config, "edge-0"):
        async with http(config, "edge-0", "cloud-0"):
            checked = await look(config)
    assert codes(checked) == ["ports.unreachable"] * 2
    assert {each.where for each in checked.findings} == {"engines.cloud-0.kv", "engines.cloud-0.kv (its data port)"}


def test_an_engine_of_another_site_that_is_down_is_a_problem() -> None:
    """It would be a note if it was to be started here, or in this site: there engines come up with the rest."""
    scope = Scope(sites(), "edge")
    refused = {port: Reached("nobody listens", True) for port in scope.listeners_of("cloud-0")}
    assert codes(judge_engine(scope, "cloud-0", Seen(False, refused))) == ["engines.down"]
    refused = {port: Reached("nobody listens", True) for port in scope.listeners_of("edge-0")}
    assert codes(judge_engine(scope, "edge-0", Seen(False, refused))) == ["engines.not_started"]
    silent = {port: Reached("no answer within 5 s") for port in scope.listeners_of("cloud-0")}
    assert codes(judge_engine(scope, "cloud-0", Seen(False, silent))) == ["ports.unreachable"] * 3


async def test_answers_that_are_lost_are_no_engine_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections are made and nothing comes over them, as where the MTU is wrong on the way: no start mends that."""
    monkeypatch.setattr(asking, "ASK_S", 0.5)
    monkeypatch.setattr("prfaas.doctor.engines.is_here", lambda ips: False)
    config = sites()
    ports = Scope(config, "edge").listeners_of("cloud-0")
    silent = [socket.create_server((each.host, each.port)) for each in ports]
    with mover(config, "edge-0"):
        async with http(config, "edge-0"):
            findings = (await look(config)).findings
    for each in silent:
        each.close()
    assert [(each.code, each.where) for each in findings] == [
        ("engines.silent", "engines.cloud-0.url"),
        ("engines.silent", "engines.cloud-0.kv"),
    ]
    assert all("ping -M do -s 1472 127.0.0.1" in each.way_out for each in findings)


def test_large_packets_are_tried_on_the_way_that_was_taken() -> None:
    """To the port that does not answer, in packets of 1,500 bytes: the header of IPv6 is 20 bytes longer."""
    scope = Scope(sites(), "edge")
    ips = {"engine": "192.0.2.1", "mover": "2001:db8::1", "data": "2001:db8::1"}
    reached = {port: Reached(mtu_bytes=1_500, ip=ips[port.serves]) for port in scope.listeners_of("cloud-0")}
    late = "no answer within 5 s"
    seen = Seen(False, reached, HttpAnswer(late, is_late=True), MoverAnswer(problem=late, reason="late"))
    url, kv = judge_engine(scope, "cloud-0", seen)
    assert url.way_out.startswith("ping -M do -s 1472 192.0.2.1; ")
    assert kv.way_out.startswith("ping -M do -s 1452 2001:db8::1; ")


def test_an_engine_of_this_machine_that_does_not_answer_hangs() -> None:
    """No network is between, so nothing is said of packets."""
    late = MoverAnswer(problem="no answer within 5 s", reason="late")
    [one] = judge_engine(Scope(sites(), "edge"), "edge-0", Seen(True, {}, None, late))
    assert (one.code, one.way_out) == ("engines.silent", "look at the engine's log, and restart it")


async def test_two_revisions_of_a_model_are_found() -> None:
    """The engines' own handshake is what disagrees; the finding has both engines, both values and the way out."""
    config = sites()
    with mover(config, "edge-0", fields={"weights": "aaaa"}), mover(config, "cloud-0", fields={"weights": "bbbb"}):
        async with http(config, "edge-0", "cloud-0"):
            [one] = (await look(config)).findings
    assert one.code == "engines.fingerprint"
    assert one.what == "weights is 'bbbb' at cloud-0 and 'aaaa' at edge-0"
    assert "another revision of the model" in one.way_out


async def test_another_engine_at_an_address_is_found() -> None:
    """Two lines of the configuration were swapped, or copied."""
    config = sites()
    with mover(config, "edge-0"), mover(config, "cloud-0", says="cloud-7"):
        async with http(config, "edge-0", "cloud-0"):
            [one] = (await look(config)).findings
    assert one.code == "engines.other"
    assert "'cloud-7' answers there" in one.what


@pytest.mark.parametrize("what", ["another authority", "another name", "plain text"])
async def test_a_site_that_is_not_believed_is_found(tmp_path: Path, what: str) -> None:
    """A wrong authority, a wrong name, or no TLS at all over there: the finding says which, and names a file or key."""
    good, other = tmp_path / "good", tmp_path / "other"
    authority = make_sites(good)
    config = sites(good)
    if what == "another authority":
        write_site(other, make_authority(NOW), "cloud")
    else:
        write_site(other, authority, "cloud", name="moon.site.prfaas")
    tree = site_tree(good)
    tree["engines"] = {name: each.model_dump() for name, each in config.engines.items()}
    there = config
    if what == "plain text":
        for site in tree["sites"].values():
            site["tls"] = "off"
        there = parse_config(tree)
    with mover(config, "edge-0"), mover(there, "cloud-0", folder=other):
        async with http(config, "edge-0", "cloud-0"):
            [one] = (await look(config)).findings
    assert (one.code, one.where) == ("engines.identity", "engines.cloud-0.kv")
    assert {
        "another authority": "signed by tls.ca",
        "another name": "no certificate of cloud.site.prfaas",
        "plain text": "does not speak TLS",
    }[what] in one.what


async def test_good_certificates_on_both_sides_are_fine(tmp_path: Path) -> None:
    """With TLS everywhere nothing is found, from either site: an engine's own site may ask it, too."""
    make_sites(tmp_path)
    config = sites(tmp_path)
    with mover(config, "edge-0"), mover(config, "cloud-0"):
        async with http(config, "edge-0", "cloud-0"):
            assert (await look(config)).findings == ()
            assert (await look(config, "cloud")).findings == ()


async def test_own_certificates_that_are_unusable_do_not_hide_the_rest(tmp_path: Path) -> None:
    """Without a key of our own no mover can be asked; the APIs are looked at all the same."""
    make_sites(tmp_path)
    config = sites(tmp_path)
    with mover(config, "cloud-0"):
        (tmp_path / "edge.key").unlink()
        async with http(config, "edge-0", "cloud-0", stub=StubVllm(version="0.31.1")):
            found = codes(await look(config))
    assert found.count("engines.vllm") == 2
    assert "engines.identity" in found


async def test_an_old_mover_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not know the question is asked to be upgraded."""
    config, scope = sites(), Scope(sites(), "edge")
    seen = Seen(True, {}, None, MoverAnswer(problem="its prfaas is older", reason="old"))
    assert codes(judge_engine(scope, "edge-0", seen)) == ["engines.old"]
    assert config.engines


def told(**changes: Any) -> Description:
    plain: dict[str, Any] = {
        "engine_id": "cloud-0",
        "epoch": 1,
        "versions": (1,),
        "slot_bytes": 65_536,
        "data_port": 7002,
        "fingerprint": Fingerprint({"vllm": "0.32.0"}, ("layer.0",)),
        "facts": GOOD_FACTS,
    }
    return Description(**{**plain, **changes})


@pytest.mark.parametrize(
    ("ahead_s", "is_here", "code"),
    [
        (0.1, False, ""),
        (CLOCK_S + 1, False, "engines.clock"),
        (-CLOCK_S - 1, False, "engines.clock"),
        (9e9, True, ""),
    ],
)
def test_clocks_may_differ_a_little(ahead_s: float, is_here: bool, code: str) -> None:
    """Two seconds and the error of measuring; this machine's own is not compared with itself."""
    seen = Seen(is_here, {}, None, MoverAnswer(Answer(told(), 0.04, ahead_s)))
    found = list(judge_engine(Scope(sites(), "edge"), "cloud-0", seen))
    assert codes(found) == ([code] if code else [])
    if code:
        assert ("ahead" if ahead_s > 0 else "behind") in found[0].what


@pytest.mark.parametrize(
    ("fact", "value", "code"),
    [
        ("hybrid_cache_manager", "off", "engines.hybrid_manager"),
        ("conv_state_layout", "SD", "engines.conv_layout"),
        ("load_failure_policy", "fail", "engines.failure_policy"),
        ("prefix_hash", "sha256", "engines.prefix_hash"),
        ("kv_events", "off", "engines.cache_events"),
        ("prefix_caching", "off", "engines.no_prefix_cache"),
        ("retention_interval", "0", "engines.retention"),
    ],
)
def test_each_setting_of_an_engine_is_judged(fact: str, value: str, code: str) -> None:
    """One wrong setting is one finding, with the flag to give; good ones are none, and unknown ones are not judged."""
    [one] = judge_facts("cloud-0", {**GOOD_FACTS, fact: value})
    assert one.code == code
    assert "prfaas engine" in one.way_out or "--" in one.way_out
    assert codes(judge_facts("cloud-0", GOOD_FACTS)) == []
    assert codes(judge_facts("cloud-0", {})) == []


def test_checkpoints_matter_to_hybrid_caches_alone() -> None:
    """Full attention can be reused at every block; "every block" keeps more than enough."""
    facts: Mapping[str, str] = {**GOOD_FACTS, "retention_interval": "0"}
    [one] = judge_facts("cloud-0", facts)
    assert "--prefix-cache-retention-interval 384" in one.way_out
    assert codes(judge_facts("cloud-0", {**facts, "hybrid_cache": "off"})) == []
    assert codes(judge_facts("cloud-0", {**facts, "retention_interval": "every block"})) == []


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ({}, []),
        ({"vllm": "0.32.5"}, []),
        ({"vllm": "0.32"}, []),
        ({"vllm": "0.33.0"}, ["engines.vllm"]),
        ({"vllm": "0.320.0"}, ["engines.vllm"]),
        ({"models": ()}, ["engines.model"]),
        ({"models": (asking.Card("other", 1000),)}, ["engines.model"]),
        ({"models": (asking.Card("tiny", 999),)}, ["engines.model"]),
        ({"models": (asking.Card("tiny", None),)}, []),
    ],
)
def test_version_and_model_of_an_api(answer: dict[str, Any], found: list[str]) -> None:
    """The model by its name, as long as the configuration says, by a vLLM of the right version."""
    good: dict[str, Any] = {"vllm": "0.32.0", "models": (asking.Card("tiny", 1000),)}
    assert codes(judge_http(sites(), "edge-0", HttpAnswer(**{**good, **answer}))) == found


async def test_adapters_that_are_missing_are_found(tmp_path: Path) -> None:
    """Each configured one that the engine does not list."""
    tree = site_tree()
    tree["model"]["adapters"] = {"legal": str(tmp_path), "poems": str(tmp_path)}
    config = parse_config(tree)
    with mover(config, "cloud-0"):
        async with http(config, "cloud-0", stub=StubVllm(adapters=("poems",))):
            [one] = (await look(config, "cloud")).findings
    assert (one.code, one.what) == ("engines.model", "lacks the adapter legal")


def answered(**changes: Any) -> Answer:
    return Answer(told(**changes), 0.01, 0.0)


def test_every_pair_of_a_link_is_compared() -> None:
    """Prefill engines of linked sites with decode engines of this one; equal ones are fine."""
    scope = Scope(sites(), "edge")
    good = {"edge-0": answered(engine_id="edge-0"), "cloud-0": answered()}
    assert codes(judge_agreement(scope, good)) == []
    for change in ({"versions": (9,)}, {"fingerprint": Fingerprint({"vllm": "0.31"}, ("layer.0",))}, {"slot_bytes": 1}):
        wrong = {**good, "edge-0": answered(engine_id="edge-0", **change)}
        assert codes(judge_agreement(scope, wrong)) == ["engines.fingerprint"]
    assert codes(judge_agreement(scope, {"cloud-0": answered()})) == []


async def test_an_api_with_an_unknown_certificate_is_an_identity(tmp_path: Path) -> None:
    """https with a certificate that nobody here believes is told apart from an engine that is down."""
    write_site(tmp_path, make_authority(NOW), "cloud", name="localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cloud.crt", tmp_path / "cloud.key")
    runner, port = web.AppRunner(web.Application()), free_port()
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
    try:
        answer = await asking.ask_http(f"https://localhost:{port}", None)
        plain = await asking.ask_http(f"http://127.0.0.1:{port}", None)
    finally:
        await runner.cleanup()
    assert (answer.is_tls, answer.is_refused) == (True, False)
    assert "certificate" in answer.problem
    assert plain.problem
    assert not plain.is_tls


async def test_asking_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that accepts and says nothing is given up."""
    monkeypatch.setattr(asking, "ASK_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began_s = time.monotonic()
        answer = await asking.ask_http(f"http://127.0.0.1:{silent.getsockname()[1]}", None)
        assert answer.is_late
        assert time.monotonic() - began_s < 30
