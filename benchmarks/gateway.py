"""What the gateway costs, beside the routers and gateways that others use; all in one run, in turns.

    python -m benchmarks.gateway [--rounds 5] [--only prfaas vllm-router] [--skip-sweep] [--skip-long] [--skip-rate]

A stub engine streams 64 chunks at a fixed pace. Four questions:

    cost    processor time of the gateway's process tree per request, prompts of 200 and 1,000 words, 32 streams
    sweep   the same for 1 to 512 streams
    long    the same for prompts of 100,000 tokens at first sight, and for the next turn of their conversations
    rate    most requests a second on one core; then, at 60 % of them, how much later the first chunk comes

Needs `make peers-gateway` for the others; one that is not there is left out.
"""

import argparse
import contextlib
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.gateway_measure import WORDS, Stand, measure_cost, measure_long, measure_rate, measure_sweep
from benchmarks.gateway_processes import pin, running
from benchmarks.gateway_text import Prompts, corpus, write_tokenizer
from benchmarks.peers import gateways
from benchmarks.peers.gateways import Server
from benchmarks.report import emit

SEED = 7


def ratio(values: Mapping[str, float], peer: str) -> float | None:
    """Of the gateway to a peer; None when one of them is not there."""
    return round(values["prfaas"] / values[peer], 3) if {"prfaas", peer} <= values.keys() else None


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def standing(folder: Path, only: Sequence[str]) -> Iterator[tuple[Stand, int]]:
    """Start the stub and every gateway that is there; yields them and the stub's process id."""
    text = corpus()
    tokenizer = write_tokenizer(folder, text)
    prompts = Prompts(text, tokenizer, SEED)
    edge_port, cloud_port, *ports = free_ports(8)
    edge, cloud = f"http://127.0.0.1:{edge_port}", f"http://127.0.0.1:{cloud_port}"
    stub = (
        sys.executable,
        "-m",
        "benchmarks.gateway_stub",
        "--tokenizer",
        str(folder),
        str(edge_port),
        str(cloud_port),
    )
    servers = {
        "prfaas": gateways.prfaas(folder, sys.executable, ports[0], edge, cloud, folder),
        "vllm-router": gateways.vllm_router(ports[1], edge, ports[4]),
        "sglang-router": gateways.sglang_router(ports[2], edge, ports[5]),
        "litellm": gateways.litellm(folder, ports[3], edge),
    }
    with contextlib.ExitStack() as stack:
        stub_pid = stack.enter_context(running(Server(stub), edge_port, folder / "stub.log"))
        started, pids = {"direct": edge_port}, {"direct": 0}
        for (name, server), port in zip(servers.items(), ports, strict=False):
            if only and name not in only:
                continue
            try:
                pids[name] = stack.enter_context(running(server, port, folder / f"{name}.log"))
                started[name] = port
            except (OSError, RuntimeError) as error:
                print(f"  {name} is out: {error}", flush=True)
        short = {words: prompts.words(words, 200) for words in WORDS}
        yield Stand(started, pids, prompts, short), stub_pid


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=[])
    for part in ("cost", "sweep", "long", "rate"):
        parser.add_argument(f"--skip-{part}", action="store_true")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))  # unwinds, and so ends what it has started
    keys: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as name, standing(Path(name), arguments.only) as (stand, stub_pid):
        if not arguments.skip_cost:
            costs = measure_cost(stand, arguments.rounds)
            keys["cpu_ms"] = costs
            for peer in ("vllm-router", "sglang-router", "litellm"):
                keys[f"cpu_vs_{peer.replace('-', '_')}"] = ratio(costs[str(WORDS[0])], peer)
        if not arguments.skip_sweep:
            keys["sweep_ms"] = measure_sweep(stand)
        if not arguments.skip_long:
            long = measure_long(stand, arguments.rounds)
            keys |= {"long_s": long, "long_prompt_core_s": long["first"].get("prfaas")}
            keys["next_turn_core_s"] = long["next"].get("prfaas")
        if not arguments.skip_rate:
            for pid in stand.pids.values():
                if pid:
                    pin(pid, {0})
            pin(stub_pid, {1})
            os.sched_setaffinity(0, {1})  # the clients: on the gateway's core they would be what is measured
            keys["rate_rps"], added = measure_rate(stand, arguments.rounds)
            keys["added_ms"] = added
            keys["added_p50_ms"] = added.get("prfaas", {}).get("p50")
            keys["added_p99_ms"] = added.get("prfaas", {}).get("p99")
    emit("gateway", keys)


if __name__ == "__main__":
    main()
