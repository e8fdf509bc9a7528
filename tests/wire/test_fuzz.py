"""A short run of the fuzzer; ``python -m tests.wire.fuzz`` is the long one."""

import subprocess
import sys

import pytest

INPUTS = 20_000


@pytest.mark.slow
def test_nothing_that_a_peer_can_say_breaks_a_rule() -> None:
    """Every scenario of ``fuzz.py`` keeps its rules for these inputs, which differ from run to run."""
    command = [sys.executable, "-m", "tests.wire.fuzz", "--inputs", str(INPUTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert f"Done {INPUTS}" in done.stderr
