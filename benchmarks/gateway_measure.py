"""The gateway's benchmark: what is measured of gateways that run."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import uvloop

from benchmarks.gateway_load import closed_loop, open_loop
from benchmarks.gateway_processes import cpu_s
from benchmarks.gateway_text import Prompts, request
from benchmarks.report import interleaved, medians

WORDS = (200, 1000)
STREAMS = 32
SWEEP = (1, 8, 64, 256, 512)
REQUESTS = 320
"""For one figure: a second of processor time or more, of which the kernel counts hundredths."""
SLOW = {"litellm": 60}
"""Fewer requests for who needs much longer."""
RATE_STREAMS, RATE_REQUESTS, LATENCY_S = 256, 1200, 4
LOAD = 0.6
LONG_TOKENS, LONG_REQUESTS = 100_000, 8


@dataclass(frozen=True)
class Stand:
    """All gateways, running: ports and process ids by name (0 for none), and requests to send."""

    ports: Mapping[str, int]
    pids: Mapping[str, int]
    prompts: Prompts
    short: Mapping[int, Sequence[bytes]]

    def requests(self, name: str, words: int, count: int) -> list[bytes]:
        """So many requests, fewer for slow gateways."""
        pool = self.short[words]
        return [pool[at % len(pool)] for at in range(min(count, SLOW.get(name, count)))]


def cpu_of(stand: Stand, name: str, requests: Sequence[bytes], streams: int) -> float:
    """Processor seconds of a gateway per request."""
    before_s = cpu_s(stand.pids[name])
    uvloop.run(closed_loop(stand.ports[name], requests, streams))
    return (cpu_s(stand.pids[name]) - before_s) / len(requests)


def measure_cost(stand: Stand, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds per request by number of words and gateway."""
    names = [name for name in stand.pids if stand.pids[name]]
    costs = {}
    for words in WORDS:
        print(f"cost: {words} words, {STREAMS} streams, seconds per request", flush=True)
        contestants = {
            name: lambda name=name: cpu_of(stand, name, stand.requests(name, words, REQUESTS), STREAMS)  # noqa: B023
            for name in names
        }
        costs[str(words)] = in_ms(medians(interleaved(contestants, rounds)))
    return costs


def measure_sweep(stand: Stand) -> dict[str, dict[str, float]]:
    """Milliseconds per request by number of streams and gateway, once each."""
    result: dict[str, dict[str, float]] = {}
    for streams in SWEEP:
        print(f"sweep: {streams} streams", flush=True)
        contestants: dict[str, Callable[[], float]] = {}
        for name in (name for name in stand.pids if stand.pids[name]):
            requests = stand.requests(name, WORDS[0], max(32, min(REQUESTS, 16 * streams), 2 * streams))
            contestants[name] = partial(cpu_of, stand, name, requests, streams)
        result[str(streams)] = in_ms(medians(interleaved(contestants, 1)))
    return result


def measure_long(stand: Stand, rounds: int) -> dict[str, dict[str, float]]:
    """Core-seconds per prompt of 100,000 tokens at first sight, and for the next turn, by gateway."""
    result: dict[str, dict[str, list[float]]] = {"first": {}, "next": {}}
    for at in range(rounds + 1):
        for name in (name for name in stand.pids if stand.pids[name] and name not in SLOW):
            seen = [stand.prompts.long(LONG_TOKENS) for _ in range(LONG_REQUESTS)]
            turns = {"first": seen, "next": [stand.prompts.next_turn(each) for each in seen]}
            for turn, conversations in turns.items():
                value = cpu_of(stand, name, [request(each) for each in conversations], 1)
                if at:
                    result[turn].setdefault(name, []).append(value)
                    print(f"  long, {turn:<5} round {at}  {name:<24} {value:.4f} s", flush=True)
    return {turn: dict(medians(values)) for turn, values in result.items()}


def measure_rate(stand: Stand, rounds: int) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Requests a second on one core by gateway, and milliseconds that each adds to the first chunk at 60 % of it."""
    print("rate: requests a second on one core", flush=True)
    names = [name for name in stand.pids if stand.pids[name]]

    def rate_of(name: str) -> float:
        requests = stand.requests(name, WORDS[0], RATE_REQUESTS)
        return len(requests) / uvloop.run(closed_loop(stand.ports[name], requests, RATE_STREAMS)).wall_s

    rates = medians(interleaved({name: partial(rate_of, name) for name in names}, rounds))
    print("added latency of the first chunk at 60 % of it, ms", flush=True)
    added: dict[str, dict[str, float]] = {}
    for name, rate in rates.items():
        try:
            quantiles = [_added(stand, name, LOAD * rate, seed) for seed in range(rounds)]
        except Exception as error:  # a peer's failure of any kind must not end the comparison
            print(f"  {name} is out: {type(error).__name__}: {error}", flush=True)
            continue
        p50_s, p99_s = (statistics.median(values) for values in zip(*quantiles, strict=True))
        added[name] = in_ms({"p50": p50_s, "p99": p99_s})
        print(f"  {name:<24} {added[name]}", flush=True)
    return {name: round(rate) for name, rate in rates.items()}, added


def _added(stand: Stand, name: str, rate: float, seed: int) -> tuple[float, float]:
    """By how many seconds the first chunks come later than without a gateway: their medians and their 99th centiles."""
    requests = stand.requests("direct", WORDS[0], max(20, int(rate * LATENCY_S)))
    through, direct = (uvloop.run(open_loop(stand.ports[each], requests, rate, seed)) for each in (name, "direct"))
    return through.quantile_s(0.5) - direct.quantile_s(0.5), through.quantile_s(0.99) - direct.quantile_s(0.99)


def in_ms(values_s: Mapping[str, float]) -> dict[str, float]:
    return {name: round(1000 * value, 3) for name, value in values_s.items()}
