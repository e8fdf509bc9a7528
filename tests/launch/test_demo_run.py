"""The demo from its first line of code to its exit code, with a stack of no processes, and the folder it keeps."""

import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from prfaas.launch import up
from prfaas.launch.demo import run
from prfaas.launch.demo.compare import Comparison
from prfaas.launch.demo.evidence import Evidence
from prfaas.launch.sole_use import FolderInUse, sole_use

REMOTE = Comparison(
    stream=True,
    evidence=Evidence(5_000, "remote", "remote", cache_bytes=1_000, early_bytes=870),
    first_token_s=0.3,
    alone_s=0.2,
    tokens_equal=True,
    logprob_diff=0.125,
    tie=None,
)
RECOMPUTED = Comparison(
    stream=True,
    evidence=Evidence(5_000, "remote", "recomputed", cache_bytes=0, early_bytes=0),
    first_token_s=0.3,
    alone_s=0.2,
    tokens_equal=True,
    logprob_diff=0.0,
    tie=None,
)


def returning(value: object) -> Callable[..., Awaitable[object]]:
    async def function(*_: object, **__: object) -> object:
        return value

    return function


@pytest.mark.parametrize(
    ("comparisons", "code", "remote"), [([REMOTE], 0, 1), ([REMOTE, RECOMPUTED], 1, 1), ([RECOMPUTED], 1, 0)]
)
async def test_demo_ends_in_json_and_its_exit_code(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    comparisons: list[Comparison],
    code: int,
    remote: int,
) -> None:
    """The last line of stdout is the summary, and the exit code says whether it is a success."""
    monkeypatch.setattr(run, "make_model", returning(tmp_path))
    monkeypatch.setattr(run, "start_local", returning(None))
    monkeypatch.setattr(run, "_ask_everything", returning(comparisons))
    assert await run.run_demo(tmp_path) == code
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (summary["requests"], summary["remote"]) == (len(comparisons), remote)
    expected = {
        "exact": True,
        "max_logprob_diff": 0.125 if remote else 0.0,
        "kv_bytes": 1_000 * remote,
        "early_share": 0.87 * remote,
    }
    assert {key: summary[key] for key in expected} == expected


async def test_one_stack_to_a_folder(tmp_path: Path) -> None:
    """Demo and stack refuse a folder in which another one runs, in one line, and touch nothing in it."""
    with sole_use(tmp_path):
        for start in (run.run_demo(tmp_path), up.run_up(tmp_path, 8000)):
            with pytest.raises(FolderInUse, match="runs there already") as refusal:
                await start
            assert "\n" not in str(refusal.value)
    assert os.listdir(tmp_path) == ["lock"]
    with sole_use(tmp_path):
        pass


async def test_questions_heed_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client of the questions goes straight to this machine, whatever the environment says of proxies."""
    for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with run.openai_client("http://127.0.0.1:8000") as client:
        assert not any(client._client._mounts.values())
