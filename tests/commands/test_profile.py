"""``prfaas profile`` as a user calls it, against an engine whose times are known."""

import asyncio
import gc
import json
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from prfaas import cli
from prfaas.planner.profile_file import load_profile
from tests.measure.stub_vllm import StubVllm

MODEL = {
    "model_type": "qwen3",
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "vocab_size": 1000,
}
Run = Callable[..., int]


@pytest.fixture
def stub() -> Iterator[StubVllm]:
    """Served from a thread of its own: the command has a loop of its own."""
    # The threads take turns, every five milliseconds.
    engine, ready, stopped = StubVllm(drain_s=0.01), threading.Event(), threading.Event()

    async def serve() -> None:
        async with engine.serving():
            ready.set()
            await asyncio.to_thread(stopped.wait)
            await asyncio.sleep(0.05)  # a command that was interrupted has left connections to be accepted and ended

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    yield engine
    stopped.set()
    thread.join(10)
    with warnings.catch_warnings():
        # What the loop's end has cut off on the stub's side is no fault of the command's.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def run(stub: StubVllm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command in a folder of its own, by the stub's clock; returns the exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("prfaas.commands.profiling.MonotonicClock", lambda: stub.clock)
    (tmp_path / "config.json").write_text(json.dumps(MODEL))

    def call(*arguments: object) -> int:
        common = ("--url", stub.url, "--model-config", "config.json", "--lengths", "16,64", "--batches", "1,2")
        few = ("--rounds", "2", "--steps", "16", "--context", "4")
        monkeypatch.setattr(sys, "argv", ["prfaas", "profile", *common, *few, *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0)

    return call


def test_a_profile_is_measured_shown_and_written(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file is one that the planner reads; bytes are those of the layers: 4 * 2 * 128 * 2 a token."""
    assert run() == 0
    profile = load_profile(tmp_path / "profile.yaml")
    tree = yaml.safe_load((tmp_path / "profile.yaml").read_text())
    assert [point["bytes"] for point in tree["cache"]["points"]] == [15 * 2048, 63 * 2048]
    assert profile.decode is not None
    assert tree["measured"]["vllm"] == "0.32.0"
    shown = capsys.readouterr().out
    assert "profile.yaml: written" in shown
    assert "computed from the model's layers, not measured" in shown


def test_the_profile_as_json(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same as in the file, alone on stdout; how it goes is on stderr."""
    assert run("--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["file"] == "profile.yaml"
    assert [point["bytes"] for point in told["profile"]["cache"]["points"]] == [15 * 2048, 63 * 2048]


def test_an_existing_file_stays_unless_forced(
    run: Run, stub: StubVllm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is refused before anything is measured."""
    (tmp_path / "profile.yaml").write_text("mine")
    assert run() == 2
    assert (tmp_path / "profile.yaml").read_text() == "mine"
    assert "--force" in capsys.readouterr().err
    assert not stub.bodies
    assert run("--force") == 0
    assert load_profile(tmp_path / "profile.yaml")


def test_a_failure_leaves_no_file(run: Run, stub: StubVllm, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An engine that dies on the way: one line, exit code 1, nothing written and nothing half written."""
    stub.dies_after = 5
    assert run() == 1
    assert "went away" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_ctrl_c_leaves_no_file(run: Run, stub: StubVllm, tmp_path: Path) -> None:
    """Exit code 130 in the middle of the measurement."""

    def interrupt(tokens: int) -> float:
        if len(stub.bodies) == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return 0.1

    stub.prefill_s = interrupt
    assert run() == 130
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--lengths", "16,many"), "--lengths 16,many: write whole numbers"),
        (("--lengths", "16,200000"), "the engine takes 100000"),
        (("--model", "other"), "no model 'other'"),
        (("--model-config", "nowhere.json"), "nowhere.json: cannot be read"),
        (("--engine", "edge-0"), "either --url, or --config with --engine"),
        (("--out", "nowhere/p.yaml"), "its folder does not exist"),
    ],
)
def test_wrong_options(run: Run, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str) -> None:
    """Each is named with the way out, exit code 2."""
    assert run(*arguments) == 2
    assert message in capsys.readouterr().err


def test_an_unknown_family_without_a_transfer_is_refused(
    run: Run, stub: StubVllm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody could say how large a cache is: said before anything is measured."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mamba9"}))
    assert run() == 2
    assert "mamba9" in capsys.readouterr().err
    assert not stub.bodies
