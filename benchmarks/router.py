"""How long is a placement decision? 64 engines in three sites, both policies, snapshot included and not.

    python -m benchmarks.router [--engines 64] [--decisions 2000]

Half of the engines decode here, a few prefill beside them, the others prefill in two further sites. Prompts and cache
hits differ from decision to decision (fixed seed): mixed ones, and long ones, for which every engine
elsewhere is weighed. One engine's load changes before each snapshot, as it does with each request. ``speed`` is what it
costs to learn an engine's speed from one request; every fourth one draws the line anew.
"""

import argparse
import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from benchmarks.report import emit
from prfaas.clock import MonotonicClock
from prfaas.config import Config, parse_config
from prfaas.fleet.fleet import Fleet
from prfaas.fleet.prefill_meter import Work
from prfaas.gateway.fleet_view import FleetView
from prfaas.routing.place import place
from prfaas.routing.placement import Placement
from prfaas.routing.policy import Policy
from prfaas.routing.snapshot import FleetSnapshot, RequestFeatures

RATE = {"fixed_s": 0.1, "s_per_token": 1e-4, "s_per_token2": 1e-10}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", type=int, default=64)
    parser.add_argument("--decisions", type=int, default=2000)
    options = parser.parse_args()
    rng = random.Random(7)
    config = fleet_config(options.engines)
    fleet = Fleet(config.engines, MonotonicClock())
    for name in config.engines:
        fleet.note(name, "")
    view = FleetView(config, fleet)
    keys: dict[str, object] = {"engines": options.engines, "decisions": options.decisions}
    keys |= quantiles("snapshot", timed_us([lambda: loaded_snapshot(view, fleet)] * options.decisions))
    lengths = [300 + 997 * at % 60_000 for at in range(options.decisions)]
    keys |= quantiles("speed", timed_us([measured(view, fleet.names[0], length) for length in lengths]))
    snapshot = loaded_snapshot(view, fleet)
    for kind, shortest in (("mixed", 100), ("long", 2 * view.policy.threshold_tokens)):
        requests = [request(rng, list(config.engines), shortest) for _ in range(options.decisions)]
        for name, policy in policies(view.policy).items():
            keys |= quantiles(f"{name}_{kind}", timed_us([decision(each, snapshot, policy) for each in requests]))
            placed = [place(each, snapshot, policy) for each in requests]
            remote = sum(isinstance(each, Placement) and each.is_remote for each in placed)
            keys[f"{name}_{kind}_remote_share"] = round(remote / len(placed), 3)
    emit("router", keys)


def fleet_config(engines: int) -> Config:
    """Half of the engines here, an eighth of those prefill only; the others in two sites."""
    tree: dict[str, dict[str, object]] = {}
    for at in range(engines):
        here = at < engines // 2
        site, roles = "edge", ["prefill", "decode"]
        if not here or at % 8 == 7:
            site, roles = ("edge" if here else ("cloud", "moon")[at % 2]), ["prefill"]
        url, kv = f"http://127.0.0.1:{10_000 + at}", f"127.0.0.1:{20_000 + 2 * at}"
        tree[f"{site}-{at}"] = {"site": site, "url": url, "kv": kv, "roles": roles, "prefill": RATE}
    return parse_config(
        {
            "model": {"name": "m", "path": "/nowhere", "max_model_len": 131_072},
            "gateway": {"site": "edge"},
            "sites": {site: {"tls": "off"} for site in ("edge", "cloud", "moon")},
            "engines": tree,
            "links": [{"from": site, "to": "edge", "egress_budget_gb_per_day": 1_000} for site in ("cloud", "moon")],
            "policy": {"threshold_tokens": 4_000, "cache": {"bytes_per_token": 17_280, "state_bytes": 1e8}},
        }
    )


def request(rng: random.Random, engines: Sequence[str], shortest: int) -> RequestFeatures:
    """A prompt of up to 60,000 tokens of which three engines have a part."""
    tokens = int(math.exp(rng.uniform(math.log(shortest), math.log(60_000))))
    hits = {name: rng.randrange(tokens // 3) for name in rng.sample(engines, 3)}
    return RequestFeatures(tokens, hits=hits)


def loaded_snapshot(view: FleetView, fleet: Fleet) -> FleetSnapshot:
    with fleet.load(fleet.names[0]):
        return view.snapshot()


def measured(view: FleetView, engine: str, tokens: int) -> Callable[[], object]:
    def measure() -> None:
        with view.speeds.measuring(engine, Work(tokens)) as prefilling:
            prefilling.is_over = True

    return measure


def policies(base: Policy) -> dict[str, Policy]:
    """Both policies, and the threshold with an objective, which needs predictions as well."""
    return {
        "threshold": base,
        "objective": replace(base, slo_first_token_s=2.0),
        "predictive": replace(base, name="predictive"),
    }


def decision(features: RequestFeatures, snapshot: FleetSnapshot, policy: Policy) -> Callable[[], object]:
    return lambda: place(features, snapshot, policy)


def timed_us(calls: Sequence[Callable[[], object]]) -> list[float]:
    """Microseconds of each call, after a warm-up with a tenth of them."""
    for call in calls[: len(calls) // 10]:
        call()
    times = []
    for call in calls:
        began = time.perf_counter_ns()
        call()
        times.append((time.perf_counter_ns() - began) / 1_000)
    return times


def quantiles(name: str, times_us: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(times_us, n=100)
    print(f"  {name:<18} p50 {cuts[49]:7.1f} us   p99 {cuts[98]:7.1f} us", flush=True)
    return {f"{name}_p50_ms": round(cuts[49] / 1_000, 4), f"{name}_p99_ms": round(cuts[98] / 1_000, 4)}


if __name__ == "__main__":
    main()
