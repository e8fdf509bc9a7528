import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from prfaas.errors import ConfigError
from prfaas.gateway.serve import serve
from tests.gateway.fakes import FakeReports, config_for, eventually
from tests.gateway.prompt.samples import TEMPLATES, save_tokenizer
from tests.ports import free_port

PROGRAM = """
import sys
from prfaas.gateway.serve import serve
from tests.gateway.fakes import FakeReports, config_for

config = config_for("http://127.0.0.1:9", "http://127.0.0.2:9")
gateway = config.gateway.model_copy(update={"port": int(sys.argv[1])})
model = config.model.model_copy(update={"path": sys.argv[2]})
serve(config.model_copy(update={"gateway": gateway, "model": model}), FakeReports())
assert not {"torch", "vllm"} & set(sys.modules)
"""


ENGINE_IS_OUT = re.compile(rb"(cannot be reached|does not answer in time)$")


def test_busy_port_is_told_in_one_line() -> None:
    """A port that is taken stops the start and names the key, the port and the host."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = config_for("http://127.0.0.1:9", "http://127.0.0.2:9")
        gateway = config.gateway.model_copy(update={"port": taken.getsockname()[1]})
        with pytest.raises(ConfigError, match=r"^gateway\.port: \d+: cannot listen on 127\.0\.0\.1: ") as refusal:
            serve(config.model_copy(update={"gateway": gateway}), FakeReports())
    assert "\n" not in str(refusal.value)


async def test_process_serves_and_stops_on_ctrl_c(tmp_path: Path) -> None:
    """The real thing in a process of its own: alive without engines, which it names, not ready, and gone at Ctrl-C."""
    folder = save_tokenizer(tmp_path, TEMPLATES["string"])
    port = free_port()
    command = [sys.executable, "-c", PROGRAM, str(port), str(folder)]
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, "PYTHONPATH": "."}, stderr=subprocess.PIPE
    )
    try:
        await eventually(lambda: _status(port, "/health") == 200)
        assert _status(port, "/ready") == 503
        process.send_signal(signal.SIGINT)
        _, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0
    assert [line for line in errors.splitlines() if not ENGINE_IS_OUT.search(line)] == []


async def test_one_process_asks_no_others(tmp_path: Path) -> None:
    """Not in a folder either that its environment happens to name: some file systems have no sockets."""
    model, values = save_tokenizer(tmp_path / "model", TEMPLATES["string"]), tmp_path / "values"
    values.mkdir()
    port = free_port()
    command = [sys.executable, "-c", PROGRAM, str(port), str(model)]
    env = {**os.environ, "PYTHONPATH": ".", "PROMETHEUS_MULTIPROC_DIR": str(values)}
    process = await asyncio.create_subprocess_exec(*command, env=env, stderr=subprocess.DEVNULL)
    try:
        await eventually(lambda: _status(port, "/health") == 200)
        assert [path for path in values.iterdir() if path.is_socket()] == []
    finally:
        process.terminate()
        await process.wait()


def _status(port: int, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0
