"""A link is measured over a real wide-area path: what `prfaas doctor` tells of it is what the path has."""

import json
import subprocess
import sys

import pytest

from tests.wan.pair import WanPair
from tests.wan.wan import Wan

pytestmark = pytest.mark.slow

MEASURE = """
import asyncio, json, sys
from prfaas.transport.dialer import Dialer
from prfaas.transport.probe import ProbeOrder, describe, probe

async def main():
    dialer = Dialer(sys.argv[1], None)
    answer = await describe(dialer)
    probed = await probe(dialer, ProbeOrder(duration_s=4.0))
    print(json.dumps([answer.rtt_s, answer.clock_ahead_s, probed.goodput_gbps, probed.elapsed_s]))

asyncio.run(main())
"""
"""In a process of its own: gRPC's threads stay in the network in which they were made."""


def test_the_figures_are_those_of_the_path(pair: WanPair, wan: Wan) -> None:
    """Of 200 Mb/s over 30 ms: no more than the path has, and not the little of a connection that has just begun."""
    with wan.inside("edge"):
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, pair.remote], capture_output=True, text=True, timeout=200, check=True
        )
    rtt_s, clock_ahead_s, gbps, elapsed_s = json.loads(done.stdout)
    print(f"{gbps:.4f} Gb/s, {1000 * rtt_s:.1f} ms, clock {1000 * clock_ahead_s:+.1f} ms, {elapsed_s:.1f} s")
    assert 0.05 < gbps < 0.25
    assert rtt_s >= 0.030
    assert abs(clock_ahead_s) <= rtt_s
