"""The scenarios of ``benchmarks.scenarios``: the paper's fleet and what happens to it."""

from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path

from prfaas.planner.log_normal import LogNormalLengths
from prfaas.planner.profile import EngineProfile
from prfaas.planner.profile_file import load_profile
from prfaas.planner.simulator.arrivals import Prefixes, Synthetic, Trace, ramp
from prfaas.planner.simulator.spec import Change, EngineSpec, FleetSpec, LinkSpec, Promise, Scenario

GBIT_BYTES = 1e9 / 8
FULL_BYTES_S = 100 * GBIT_BYTES
HOUR_S = 3600.0
TRACE = Path(__file__).parent / "data" / "mooncake_conversation_trace.jsonl"
LENGTHS = LogNormalLengths(9.90, 1.00, 128, 128 << 10)
SHORT = LogNormalLengths(8.80, 1.00, 128, 128 << 10)
"""A third as long: the drift leads from here to about the paper's."""
PROMISE = Promise(first_token_s=20.0, token_s=0.03)
"""The longest prompts take 22 s on a local engine with nothing before them. The paper's pace is 40 tokens a second, the
step of its only operating point; here it may slip to 33, or a single prefill on a decode engine spoils its batch."""
CACHE_TOKENS = 4_000_000
"""Of prompts, on one engine: 70 GB of the paper's model, in host memory."""
SITES = (1, 8, 64)


def scenarios(seed: int) -> Iterator[Scenario]:
    """All, offered seven to nine tenths of what the planner promises the fleet as it is at the beginning, so that a
    policy which keeps its t and its division fails in the drift and when the link falls; where the site is lost less,
    which the local engines alone can just serve. In "local" it is 85 % of what they can (1.36 requests/s): keeping all
    is good there, and a controller can be worse."""
    yield Scenario("trace", fleet(cache_tokens=CACHE_TOKENS), Trace(TRACE, speed=2.0), PROMISE)
    yield _synthetic("bursts", seed, 2.7, 2 * HOUR_S, cv=3.0)
    drift = Synthetic(2.9, 2 * HOUR_S, SHORT, 1024, seed, length_scale=ramp(0.5 * HOUR_S, 1.5 * HOUR_S, 3.0))
    yield Scenario("drift", fleet(), drift, PROMISE)
    for share, requests_s in ((0.0, 2.6), (0.4, 3.2), (0.8, 4.0)):
        prompts = Synthetic(requests_s, 1.5 * HOUR_S, LENGTHS, 1024, seed, prefixes=Prefixes(share))
        yield Scenario(f"hits {share:.0%}", fleet(cache_tokens=CACHE_TOKENS), prompts, PROMISE)
    rates = (8 * GBIT_BYTES, FULL_BYTES_S)
    falls = tuple(Change((1 + at) * HOUR_S, "bandwidth", "cloud-0", rate) for at, rate in enumerate(rates))
    yield replace(_synthetic("link", seed, 2.4, 3 * HOUR_S), changes=falls)
    lost = (Change(HOUR_S, "site_down", "cloud-0"), Change(2 * HOUR_S, "site_up", "cloud-0"))
    yield replace(_synthetic("site lost", seed, 1.1, 3 * HOUR_S), changes=lost)
    yield _synthetic("local", seed, 1.15, 2 * HOUR_S)
    for sites in SITES:
        arrivals = Synthetic(0.65 * sites, HOUR_S / max(1, sites / 8), LENGTHS, 1024, seed)
        yield Scenario(f"sites {sites}", many_sites(sites), arrivals, PROMISE)


def fleet(cache_tokens: int = 0) -> FleetSpec:
    """The case study's: 4 instances of 8 H200 behind 100 Gbit/s, 8 of 8 H20 here."""
    return _fleet(1, 4, 8, FULL_BYTES_S, cache_tokens)


def many_sites(sites: int) -> FleetSpec:
    """An instance of H200 a site behind 25 Gbit/s, and two of H20 here for each."""
    return _fleet(sites, 1, max(2 * sites, 3), 25 * GBIT_BYTES, 0)


def paper_profile(name: str) -> EngineProfile:
    with as_file(files("prfaas.planner") / "data" / name) as path:
        return load_profile(path)


def _fleet(sites: int, remote: int, local: int, bandwidth_bytes_s: float, cache_tokens: int) -> FleetSpec:
    h200, h20 = paper_profile("paper_h200.yaml"), paper_profile("paper_h20.yaml")
    engines = [EngineSpec(f"edge-{at}", "edge", h20, "decode", cache_tokens=cache_tokens) for at in range(local)]
    engines += [
        EngineSpec(f"cloud-{site}-{at}", f"cloud-{site}", h200, "prefill", cache_tokens=cache_tokens)
        for site in range(sites)
        for at in range(remote)
    ]
    links = tuple(LinkSpec(f"cloud-{site}", bandwidth_bytes_s, rtt_s=0.02) for site in range(sites))
    return FleetSpec("edge", tuple(engines), links)


def _synthetic(name: str, seed: int, requests_s: float, duration_s: float, cv: float = 1.0) -> Scenario:
    return Scenario(name, fleet(), Synthetic(requests_s, duration_s, LENGTHS, 1024, seed, cv=cv), PROMISE)
