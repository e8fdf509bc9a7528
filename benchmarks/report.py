"""What every benchmark shares: interleaved rounds, medians, and a result that says where it comes from."""

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

Measure = Callable[[], float]


def interleaved(contestants: Mapping[str, Measure], rounds: int) -> dict[str, list[float]]:
    """Run every contestant once as a warm-up, then ``rounds`` times in turns, so that a noisy moment hits all alike.

    A contestant that raises is out of the race; its name is then missing from the result and the reason is printed.
    """
    results: dict[str, list[float]] = {name: [] for name in contestants}
    for at in range(rounds + 1):
        for name, measure in contestants.items():
            if name not in results:
                continue
            try:
                value = measure()
            except Exception as error:  # a peer's failure of any kind must not end the comparison
                print(f"  {name} is out: {type(error).__name__}: {error}", flush=True)
                del results[name]
                continue
            if at:
                results[name].append(value)
                print(f"  round {at}  {name:<24} {value:.4g}", flush=True)
    return results


def medians(results: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The median of each contestant."""
    return {name: statistics.median(values) for name, values in results.items() if values}


def hardware() -> str:
    """Processor, number of usable CPUs, memory and kernel in one line."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "?"
    )
    kib = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    cpus = len(os.sched_getaffinity(0))
    return f"{model}, {cpus} CPUs, {kib / (1 << 20):.0f} GiB, Linux {platform.release()}"


def commit() -> str:
    """The commit that is measured, marked when the tree differs from it."""
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    result = subprocess.run(describe, cwd=ROOT, capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown"


def emit(benchmark: str, keys: Mapping[str, object]) -> None:
    """Print the result as the last line of the output."""
    command = " ".join(["python", "-m", f"benchmarks.{benchmark}", *sys.argv[1:]])
    head = {"benchmark": benchmark, "hardware": hardware(), "commit": commit(), "command": command}
    print(json.dumps({**head, **keys}), flush=True)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
