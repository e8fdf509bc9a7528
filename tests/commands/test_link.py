"""``prfaas link test`` against a real mover on loopback."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.gateway.fakes import config_for
from tests.ports import free_port
from tests.transport.movers import TinyEngine

Run = Callable[..., int]
QUICK = ("--seconds", "0.3", "--max-mb", "16", "--connections", "2")


@pytest.fixture(scope="module")
def cloud() -> Iterator[TinyEngine]:
    engine = TinyEngine("cloud-0")
    yield engine
    engine.close()


def config_file(folder: Path, kv: str, **link: object) -> Path:
    """The gateway's site is edge; one engine of cloud prefills for it."""
    tree = config_for("http://127.0.0.1:9", "http://127.0.0.2:9").model_dump(
        mode="json", by_alias=True, exclude_none=True
    )
    tree["engines"]["cloud-0"]["kv"] = kv
    tree["links"][0] |= link
    file = folder / "prfaas.yaml"
    file.write_text(yaml.safe_dump(tree))
    return file


def test_a_link_is_measured(run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path, cloud: TinyEngine) -> None:
    """Round trip, bandwidth and its share of the configured one; in bytes a second for programs."""
    file = config_file(tmp_path, cloud.mover.listen, bandwidth_gbps=5)
    assert run("link", "test", "cloud", "--config", file, *QUICK) == 0
    told = capsys.readouterr().out
    for words in ("cloud → edge: 5 Gbit/s configured", "cloud-0", "Gbit/s"):
        assert words in told
    assert run("link", "test", "cloud", "--config", file, "--json", *QUICK) == 0
    document = json.loads(capsys.readouterr().out)
    [engine] = document["engines"]
    assert document["bandwidth_bytes_s"] == 625e6
    assert engine["goodput_bytes_s"] > 0
    assert engine["share"] == pytest.approx(engine["goodput_bytes_s"] / 625e6)
    assert 0 < engine["received_bytes"] <= 16_000_000
    assert engine["rtt_s"] > 0


def test_a_link_that_is_slower_than_wanted(
    run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path, cloud: TinyEngine
) -> None:
    """--at-least makes a check of it, with exit code 1."""
    file = config_file(tmp_path, cloud.mover.listen, bandwidth_gbps=1_000_000)
    assert run("link", "test", "cloud", "--config", file, "--at-least", "0.9", *QUICK) == 1
    assert "of the bandwidth, less than 90%" in capsys.readouterr().err


def test_nobody_answers(run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Exit code 1, in one line on stderr, and the address in the table."""
    kv = f"127.0.0.1:{free_port()}"
    assert run("link", "test", "cloud", "--config", config_file(tmp_path, kv), *QUICK) == 1
    told = capsys.readouterr()
    assert kv in told.out
    [line] = told.err.splitlines()
    assert line.startswith("prfaas: cloud → edge could not be measured: ")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("edge",), "there are: cloud → edge"),
        (("cloud", "--to", "moon"), "no link leads from cloud to moon"),
        (("cloud", "--engine", "edge-0"), "the engines of cloud that prefill are cloud-0"),
        (("cloud", "--seconds", "60"), "10"),
    ],
)
def test_wrong_use(
    run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    """No such link or engine, or a longer measurement than movers allow: exit code 2, and what there is."""
    assert run("link", "test", *options, "--config", config_file(tmp_path, "127.0.0.1:7199")) == 2
    assert words in capsys.readouterr().err


def test_without_a_configuration(
    run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says which option is missing."""
    monkeypatch.chdir(tmp_path)
    assert run("link", "test", "cloud") == 2
    assert "--config" in capsys.readouterr().err
