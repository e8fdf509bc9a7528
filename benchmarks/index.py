"""What the index of prefix caches costs: applying events, looking up long prompts, deciding, memory.

One process, 64 engines with a hybrid geometry (attention and recurrent groups), filled to 1 and to 10 million blocks,
nearly all of them distinct. A prompt has 128K tokens and is looked up with blocks of 16 tokens, the finest that engines
have, and of 512, as hybrid models have them. It is one of four:

cached      one engine has all of it, the others prefixes of different lengths. It is a conversation: of each turn one
            event brought the question's blocks, 120 on average, then 8 came one by one, between those of the others
scattered   the same, but every block came alone, in no order: the worst that any past can leave
beginning   the engines have its first 5 %
miss        nobody has anything of it

    python -m benchmarks.index [--rounds 5] [--millions 1 10]
"""

import argparse
import statistics
import time
from dataclasses import replace

import numpy as np

from benchmarks import report
from benchmarks.router import fleet_config
from prfaas.clock import MonotonicClock
from prfaas.fleet.block_hash import Chain, PromptHashes
from prfaas.fleet.fleet import Fleet as EngineHealth
from prfaas.fleet.prefix_index import PrefixIndex
from prfaas.gateway.fleet_view import FleetView
from prfaas.prefix import CacheGroup, PrefixChange, PrefixGeometry, PrefixUpdate
from prfaas.routing.place import place
from prfaas.routing.snapshot import RequestFeatures

ENGINES = 64
PROMPT_TOKENS = 128 << 10
BLOCK_TOKENS = (16, 512)
EVENT_BLOCKS = 128
"""Of one event: a step of 2,048 tokens in blocks of 16."""
ANSWER_BLOCKS = 8
"""Of a turn, the last ones."""
PROMPTS = 48
"""Of each kind; with some MiB of blocks that are looked at, more than the caches of this processor."""
KINDS = ("cached", "scattered", "beginning", "miss")


def geometry_of(block_tokens: int) -> PrefixGeometry:
    groups = (CacheGroup(0, "full", block_tokens), CacheGroup(1, "recurrent", block_tokens))
    return PrefixGeometry(block_tokens, block_tokens, bytes(32), groups)


class Fleet:
    """An index that is filled with blocks, and prompts that hit in it."""

    def __init__(self, block_tokens: int, blocks: int, seed: int) -> None:
        self.geometry = geometry_of(block_tokens)
        self.index = PrefixIndex()
        self.config = fleet_config(ENGINES)
        self.names = list(self.config.engines)
        self._rng = np.random.default_rng(seed)
        self._blocks = blocks
        for name in self.names:
            self.index.apply(name, PrefixUpdate(self.geometry, blocks // ENGINES, is_reset=True))
        self._links = PROMPT_TOKENS // block_tokens
        self._prompts = {kind: [self._new(self._links) for _ in range(PROMPTS)] for kind in KINDS}
        self._converse(self._prompts["cached"])
        for block in self._rng.permutation(np.concatenate(self._prompts["scattered"])):
            self._apply(self.names[-1], 0, block[None])
        for chain in self._prompts["beginning"]:
            self._hold(chain, self._links // 20)
        for chain in self._prompts["cached"] + self._prompts["scattered"]:
            self._hold(chain, self._links)

    def _converse(self, chains: list[Chain]) -> None:
        """The last engine computes these conversations at once."""
        turn = 0
        while turn < self._links:
            end = min(self._links, turn + int(self._rng.integers(EVENT_BLOCKS // 2, EVENT_BLOCKS * 3 // 2)))
            for chain in chains:
                self._apply(self.names[-1], 0, chain[turn : end - ANSWER_BLOCKS])
            for block in range(max(turn, end - ANSWER_BLOCKS), end):
                for chain in chains:
                    self._apply(self.names[-1], 0, chain[block : block + 1])
            turn = end

    def _hold(self, chain: Chain, links: int) -> None:
        """Every engine has another part of so many first blocks, the last one all of them."""
        for at, name in enumerate(self.names):
            held = chain[: links * (at + 1) // ENGINES]
            self._apply(name, 0, held)
            self._apply(name, 1, held[31::32] if len(held) > 31 else held[-1:])

    def fill(self) -> float:
        """Add blocks until there are as many as were asked for, as events of all engines in turns; blocks a second."""
        left, spent_s = self._blocks - sum(blocks for blocks, _ in self.index.sizes()), 0.0
        for at in range(left // EVENT_BLOCKS):
            blocks = self._new(EVENT_BLOCKS)
            began_s = time.perf_counter()
            self._apply(self.names[at % ENGINES], 0, blocks)
            spent_s += time.perf_counter() - began_s
        return left / spent_s

    def prompt(self, kind: str, number: int) -> PromptHashes:
        """One of the prompts; together they and their blocks are larger than the processor's caches."""
        way = (self.geometry.hash_tokens, self.geometry.root)
        return PromptHashes(PROMPT_TOKENS, {way: self._prompts[kind][number % PROMPTS]})

    def _new(self, count: int) -> Chain:
        return self._rng.integers(1, 1 << 63, count, np.uint64)

    def _apply(self, name: str, group: int, blocks: Chain) -> None:
        self.index.apply(name, PrefixUpdate(changes=(PrefixChange(group, True, blocks.tolist()),)))


def main() -> None:
    args = _arguments()
    print(report.hardware())
    found: dict[str, dict[str, float]] = {}
    for block_tokens in BLOCK_TOKENS:
        for millions in sorted(args.millions):
            fleet = Fleet(block_tokens, millions * 1_000_000, seed=7)
            found[f"{millions}M blocks of {block_tokens}"] = _measured(fleet, fleet.fill(), args.rounds)
    report.emit("index", {**_keys(found), "by_size": found, "engines": ENGINES, "prompt_tokens": PROMPT_TOKENS})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.index", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--millions", type=int, nargs="+", default=[1, 10])
    return parser.parse_args()


def _measured(fleet: Fleet, blocks_per_s: float, rounds: int) -> dict[str, float]:
    lookups_ms = {kind: _lookups_ms(fleet, kind, rounds) for kind in KINDS}
    (blocks, size_bytes), *_ = fleet.index.sizes()
    decisions_ms = _decisions_ms(fleet, rounds)
    return {
        "blocks_per_s": round(blocks_per_s),
        "events_per_s": round(blocks_per_s / EVENT_BLOCKS),
        "lookup_p50_ms": round(max(statistics.median(lookups_ms[kind]) for kind in ("cached", "miss")), 3),
        "lookup_p99_ms": round(max(float(np.quantile(lookups_ms[kind], 0.99)) for kind in ("cached", "miss")), 3),
        **{f"{kind}_p50_ms": round(statistics.median(times), 3) for kind, times in lookups_ms.items()},
        "decision_p50_ms": round(statistics.median(decisions_ms), 3),
        "bytes_per_block": round(size_bytes / blocks, 1),
    }


def _lookups_ms(fleet: Fleet, kind: str, rounds: int) -> list[float]:
    most = max(fleet.index.hits(fleet.prompt(kind, 0)).values(), default=0)
    assert most > PROMPT_TOKENS * {"beginning": 0.02, "miss": -1}.get(kind, 0.8)
    times_ms: list[float] = []
    for number in range((rounds + 1) * PROMPTS):
        prompt = fleet.prompt(kind, number)
        began_s = time.perf_counter()
        fleet.index.hits(prompt)
        times_ms.append((time.perf_counter() - began_s) * 1e3)
    return times_ms[PROMPTS:]


def _decisions_ms(fleet: Fleet, rounds: int) -> list[float]:
    """Placing the prompts by what the index says of them and by prediction; without the look-up."""
    health = EngineHealth(fleet.config.engines, MonotonicClock())
    for name in fleet.names:
        health.note(name, "")
    view = FleetView(fleet.config, health)
    policy = replace(view.policy, name="predictive")
    times_ms = []
    for number in range((rounds + 1) * PROMPTS):
        features = RequestFeatures(PROMPT_TOKENS, hits=fleet.index.hits(fleet.prompt("cached", number)))
        began_s = time.perf_counter()
        place(features, view.snapshot(), policy)
        times_ms.append((time.perf_counter() - began_s) * 1e3)
    return times_ms[PROMPTS:]


def _keys(found: dict[str, dict[str, float]]) -> dict[str, float]:
    """The finest blocks at the largest size, which is the worst case."""
    first, last = (next(iter(found)), f"{max(int(name.split('M')[0]) for name in found)}M blocks of {BLOCK_TOKENS[0]}")
    worst = found[last]
    return {
        "blocks_per_s": worst["blocks_per_s"],
        "lookup_p50_ms": worst["lookup_p50_ms"],
        "decision_p50_ms": worst["decision_p50_ms"],
        "bytes_per_block": worst["bytes_per_block"],
        "growth_ratio": round(worst["lookup_p50_ms"] / found[first]["lookup_p50_ms"], 3),
    }


if __name__ == "__main__":
    main()
