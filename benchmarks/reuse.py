"""How much of what could be reused is reused: two engines of one site, conversations with shared system prompts.

Every policy serves the same trace through the same engines, in a namespace (``cache_salt``) of its own: the gateway,
which knows what each engine has cached; a trie of what was sent to each engine, as approximate ones do; and turns.
*Reusable* is, for each request, the longest prefix that any earlier request of its policy shared with it, prompt and
answer, in whole blocks: what one engine with endless memory would reuse. *Exact*: the gateway's answers are those of an
engine that computes each prompt from nothing; a token that is nearly as likely as another may fall either way and is
counted as a tie.

    python -m benchmarks.reuse [--conversations 24] [--turns 4]
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from rich.console import Console
from rich.progress import track

from benchmarks import report
from prfaas.clock import MonotonicClock
from prfaas.config import Config, parse_config
from prfaas.engine.tiny import make_tiny_model
from prfaas.launch.engine_command import engine_command
from prfaas.launch.local import free_ports, gateway_service, gateway_url, local_tree
from prfaas.launch.progress import ConsoleProgress
from prfaas.launch.stack import Service, Stack
from tests.engine.models import prompt_tokens

ENGINES = ("edge-0", "edge-1")
BLOCK_TOKENS = 384
"""Of the model on this machine; a hit ends with a block."""
SYSTEMS = (700, 1_600, 2_600)
"""Tokens of the shared system prompts."""
ANSWER_TOKENS = 16
TIE_NATS = 0.25
"""How far another chunking moves logprobs of the small model; decisions/005 has the figures."""
MAX_REQUESTS = 16
"""That an engine runs at once, as its operator tells both it and the gateway."""
AT_ONCE = 3
"""Conversations that ask at the same time."""


@dataclass
class Turn:
    """One request of the trace."""

    conversation: int
    text: list[int]
    """New tokens; the prompt is the system prompt, and every text and answer of the conversation before."""


@dataclass
class Ledger:
    """What one policy reused of what it could have."""

    reused: int = 0
    reusable: int = 0
    seen: set[bytes] = field(default_factory=set)
    answers: dict[tuple[int, int], tuple[list[int], list[int]]] = field(default_factory=dict)

    def share(self) -> float:
        return round(self.reused / self.reusable, 4)

    def could_reuse(self, prompt: Sequence[int]) -> int:
        """Tokens in whole blocks, all but the last one at most."""
        blocks = 0
        for end in range(BLOCK_TOKENS, len(prompt), BLOCK_TOKENS):
            if _packed(prompt[:end]) not in self.seen:
                break
            blocks += 1
        return blocks * BLOCK_TOKENS

    def served(self, tokens: Sequence[int]) -> None:
        """An engine has computed this prompt and its answer."""
        self.seen |= {_packed(tokens[:end]) for end in range(BLOCK_TOKENS, len(tokens) + 1, BLOCK_TOKENS)}


class Policy:
    """Whom a request goes to."""

    def __init__(self, name: str, urls: Sequence[str]) -> None:
        self.name = name
        self._urls = urls
        self._next = 0

    def choose(self, prompt: Sequence[int]) -> str:
        """In turns."""
        self._next += 1
        return self._urls[self._next % len(self._urls)]


class Trie(Policy):
    """The engine to which the longest part of the prompt was sent before; among equals the one with less."""

    def __init__(self, name: str, urls: Sequence[str]) -> None:
        super().__init__(name, urls)
        self._sent: dict[str, set[bytes]] = {url: set() for url in urls}
        self._tokens = dict.fromkeys(urls, 0)

    def choose(self, prompt: Sequence[int]) -> str:
        """Compared in pieces of 64 tokens, whatever the engines' blocks are."""
        pieces = [_packed(prompt[:end]) for end in range(64, len(prompt) + 1, 64)]

        def known(url: str) -> int:
            return next((at for at, piece in enumerate(pieces) if piece not in self._sent[url]), len(pieces))

        url = max(self._urls, key=lambda url: (known(url), -self._tokens[url]))
        self._sent[url] |= set(pieces)
        self._tokens[url] += len(prompt)
        return url


def main() -> None:
    args = _arguments()
    print(report.hardware())
    ledgers, ties, different = asyncio.run(_measure(args))
    report.emit(
        "reuse",
        {
            "reuse_share": ledgers["gateway"].share(),
            "trie_share": ledgers["trie"].share(),
            "round_robin_share": ledgers["round robin"].share(),
            "exact": different == 0,
            "ties": ties,
            "reusable_tokens": {name: ledger.reusable for name, ledger in ledgers.items()},
            "requests": args.conversations * args.turns,
        },
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reuse", description=__doc__.partition("\n")[0])
    parser.add_argument("--conversations", type=int, default=24)
    parser.add_argument("--turns", type=int, default=4)
    return parser.parse_args()


def trace_of(conversations: int, turns: int, seed: int = 5) -> tuple[list[list[int]], list[Turn]]:
    """The system prompt of each conversation, and all turns, the conversations' mixed but each in its order."""
    rng = random.Random(seed)
    systems = [prompt_tokens(length, seed=length) for length in SYSTEMS]
    begins = [rng.choice(systems) for _ in range(conversations)]
    order = [n for n in range(conversations) for _ in range(turns)]
    rng.shuffle(order)
    texts = [prompt_tokens(rng.choice([40, 200, 900]), seed=10_000 + at) for at in range(len(order))]
    return begins, [Turn(conversation, text) for conversation, text in zip(order, texts, strict=True)]


async def _measure(args: argparse.Namespace) -> tuple[dict[str, Ledger], int, int]:
    begins, turns = trace_of(args.conversations, args.turns)
    async with _site() as (config, http):
        urls = [config.engines[name].url for name in ENGINES]
        policies = [Policy("gateway", [gateway_url(config)]), Trie("trie", urls), Policy("round robin", urls)]
        ledgers = {policy.name: await _serve(policy, begins, turns, config, http) for policy in policies}
        return ledgers, *await _compare(ledgers["gateway"], urls[0], config, http)


async def _serve(
    policy: Policy, begins: list[list[int]], turns: list[Turn], config: Config, http: aiohttp.ClientSession
) -> Ledger:
    """The whole trace, a few conversations at once; within each, one turn after the other."""
    ledger, talks = Ledger(), [list(begin) for begin in begins]
    locks = [asyncio.Lock() for _ in begins]
    room = asyncio.Semaphore(AT_ONCE)

    async def take(at: int, turn: Turn) -> None:
        async with room, locks[turn.conversation]:
            prompt = talks[turn.conversation] + turn.text
            reusable = ledger.could_reuse(prompt)
            tokens, cached = await _ask(policy.choose(prompt), prompt, policy.name, config, http)
            ledger.reused, ledger.reusable = ledger.reused + min(cached, reusable), ledger.reusable + reusable
            talks[turn.conversation] = prompt + tokens
            ledger.served(talks[turn.conversation])
            ledger.answers[turn.conversation, at] = (prompt, tokens)

    for start in track(range(0, len(turns), AT_ONCE), description=policy.name):
        await asyncio.gather(*(take(start + n, turn) for n, turn in enumerate(turns[start : start + AT_ONCE])))
    print(f"  {policy.name:<12} reused {ledger.reused} of {ledger.reusable} tokens: {ledger.share():.3f}", flush=True)
    return ledger


async def _ask(
    url: str, prompt: list[int], salt: str, config: Config, http: aiohttp.ClientSession
) -> tuple[list[int], int]:
    body = _body(prompt, config) | {"cache_salt": salt}
    answer = await _post(f"{url}/v1/completions", body, http)
    details = answer["usage"].get("prompt_tokens_details") or {}
    return answer["choices"][0]["token_ids"], details.get("cached_tokens") or 0


async def _compare(ledger: Ledger, url: str, config: Config, http: aiohttp.ClientSession) -> tuple[int, int]:
    """Ties and differences among the gateway's answers, against an engine without a cached prefix."""
    ties = different = 0
    for at, (prompt, tokens) in enumerate(track(ledger.answers.values(), description="exact")):
        body = _body(prompt, config) | {"cache_salt": f"alone-{at}", "logprobs": 5}
        choice = (await _post(f"{url}/v1/completions", body, http))["choices"][0]
        if choice["token_ids"] == tokens:
            continue
        first = next(n for n, pair in enumerate(zip(choice["token_ids"], tokens, strict=True)) if pair[0] != pair[1])
        likely = sorted(choice["logprobs"]["top_logprobs"][first].values(), reverse=True)
        is_tie = len(likely) < 2 or likely[0] - likely[1] < TIE_NATS
        ties, different = ties + is_tie, different + (not is_tie)
    return ties, different


def _body(prompt: list[int], config: Config) -> dict[str, Any]:
    fixed = {"max_tokens": ANSWER_TOKENS, "min_tokens": ANSWER_TOKENS, "temperature": 0, "return_token_ids": True}
    return {"model": config.model.name, "prompt": prompt, **fixed}


async def _post(url: str, body: dict[str, Any], http: aiohttp.ClientSession) -> Any:
    async with http.post(url, json=body) as response:
        text = await response.text()
        if response.status != 200:
            raise RuntimeError(f"{url}: status {response.status}: {text[:300]}")
        return json.loads(text)


@contextlib.asynccontextmanager
async def _site() -> AsyncIterator[tuple[Config, aiohttp.ClientSession]]:
    """Two engines and the gateway."""
    model = make_tiny_model("qwen3_next", report.ROOT / ".prfaas" / "models" / "qwen3_next")
    tree = local_tree(model, free_ports(0))
    tree["engines"] = dict(zip(ENGINES, tree["engines"].values(), strict=True))
    for engine in tree["engines"].values():
        engine |= {"site": "edge", "roles": ["prefill", "decode"], "max_requests": MAX_REQUESTS}
    tree["links"] = []
    config = parse_config(tree)
    with tempfile.TemporaryDirectory() as folder:
        path = _written(tree, Path(folder, "prfaas.yaml"))
        progress = ConsoleProgress(Console(), MonotonicClock())
        timeout = aiohttp.ClientTimeout(total=180)
        # Without kept connections: an engine closes them when a policy leaves it alone for a while.
        connector = aiohttp.TCPConnector(force_close=True)
        session = aiohttp.ClientSession(timeout=timeout, connector=connector)
        async with Stack(Path(folder, "logs"), progress) as stack, session as http:
            cores = sorted(os.sched_getaffinity(0))
            engines = [_engine(config, name, cores[at % len(cores)]) for at, name in enumerate(ENGINES)]
            await stack.start(engines)
            await stack.start([gateway_service(config, path)])
            yield config, http


def _written(tree: dict[str, Any], path: Path) -> Path:
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


def _engine(config: Config, name: str, core: int) -> Service:
    """With a checkpoint of the recurrent state at every block, so that what is shared can be reused."""
    args = (
        *("--max-num-batched-tokens", "2048", "--max-num-seqs", str(MAX_REQUESTS)),
        *("--enforce-eager", "--enable-prompt-tokens-details"),
    )
    command = engine_command(config, name, (*args, "--prefix-cache-retention-interval", str(BLOCK_TOKENS)))
    env = {"VLLM_CPU_OMP_THREADS_BIND": str(core), "VLLM_CPU_KVCACHE_SPACE": "1"}
    url = config.engines[name].url
    warm_up = (f"{url}/v1/completions", {"model": config.model.name, "prompt": list(range(60, 100)), "max_tokens": 2})
    command = replace(command, env={**command.env, **env})
    return Service(name, command, health_url=f"{url}/health", warm_up=warm_up)


def _packed(tokens: Sequence[int]) -> bytes:
    """Tokens as a key; those of the small model are bytes and a few more."""
    return b"".join(token.to_bytes(2, "big") for token in tokens)


if __name__ == "__main__":
    main()
