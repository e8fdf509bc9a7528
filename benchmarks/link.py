"""How fast cache bytes pass between two movers, beside everything else that moves bytes on this machine.

512 MiB from the prefill side's staging to the decode side's over loopback, as the product moves it (frames, checksums,
manifest, two mover processes), in turns with iperf3, bare Python sockets, bare gRPC-python, NIXL over UCX TCP and
Mooncake TCP; then bytes a second against transfer size, concurrent transfers and layers. GB are 10^9 bytes.

    python -m benchmarks.link [--rounds 5] [--size-mib 512] [--only NAME ...] [--no-scaling]
"""

import argparse
import contextlib
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import report
from benchmarks.mover_pair import MIB, MoverPair, Shape, make_certificates
from benchmarks.peers import bare_grpc, bare_sockets, iperf3, other_python

SLOT_BYTES = 1 * MIB
CONNECTIONS = (1, 2, 4)
GRPC_MESSAGES = (64 << 10, 256 << 10, 1 * MIB, 4 * MIB)
NIXL_CHUNKS = (4 * MIB, 512 * MIB)

Contestants = dict[str, report.Measure]


def main() -> None:
    args = _arguments()
    size_bytes = args.size_mib * MIB
    print(report.hardware())
    with contextlib.ExitStack() as stack:
        contestants, missing = _contestants(stack, size_bytes, args.only)
        for name, why in missing.items():
            print(f"  missing: {name}: {why}")
        medians = report.medians(report.interleaved(contestants, args.rounds))
    scaling = {} if args.no_scaling else _scaling()
    report.emit("link", {**_keys(medians), "gb_s": medians, "missing": missing, **scaling})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.link", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds after one warm-up")
    parser.add_argument("--size-mib", type=int, default=512)
    parser.add_argument("--only", nargs="*", default=[], help="contestants whose names begin so; all without it")
    parser.add_argument("--no-scaling", action="store_true", help="leave out sizes, concurrency and layers")
    return parser.parse_args()


def _contestants(stack: contextlib.ExitStack, size_bytes: int, only: list[str]) -> tuple[Contestants, dict[str, str]]:
    """All that can run, and why the others cannot."""
    gb = size_bytes / 1e9
    found: Contestants = {}
    missing: dict[str, str] = {}

    def rate(seconds: report.Measure) -> float:
        return gb / seconds()

    def offer(name: str, why_not: str, make: Callable[[], Contestants]) -> None:
        if only and not any(name.startswith(one) for one in only):
            return
        if why_not:
            missing[name] = why_not
        else:
            found.update({key: partial(rate, seconds) for key, seconds in make().items()})

    offer("tcp", "", lambda: _movers(stack, size_bytes, "tcp"))
    offer("tls", "", lambda: _movers(stack, size_bytes, "tls"))
    offer("grpc", "", lambda: _movers(stack, size_bytes, "grpc"))
    offer(
        "iperf3",
        iperf3.missing(),
        lambda: {f"iperf3 x{n}": partial(iperf3.measure, size_bytes, n) for n in CONNECTIONS},
    )
    offer("sockets", "", lambda: _sockets(size_bytes))
    offer("bare grpc", "", lambda: _bare_grpc(stack, size_bytes))
    offer("nixl", other_python.missing("nixl"), lambda: _nixl(stack, size_bytes))
    offer("mooncake", other_python.missing("mooncake"), lambda: _mooncake(stack, size_bytes))
    return found, missing


def _movers(stack: contextlib.ExitStack, size_bytes: int, link: str) -> Contestants:
    """The product over one kind of link: plain TCP, TLS or gRPC."""
    shape = Shape(size_bytes // SLOT_BYTES, SLOT_BYTES)
    certificates = None
    if link == "tls":
        certificates = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        make_certificates(certificates)

    def seconds(pair: MoverPair) -> float:
        return max(pair.move(shape))

    found: Contestants = {}
    for connections in CONNECTIONS:
        pair = MoverPair(
            slot_bytes=SLOT_BYTES,
            staging_mib=size_bytes // MIB,
            connections=connections,
            over_grpc=link == "grpc",
            certificates=certificates,
        )
        stack.callback(pair.close)
        found[f"{link} x{connections}"] = partial(seconds, pair)
    return found


def _sockets(size_bytes: int) -> Contestants:
    into = bare_sockets.touched(size_bytes)
    return {f"sockets x{n}": partial(bare_sockets.measure, size_bytes, n, into) for n in CONNECTIONS}


def _bare_grpc(stack: contextlib.ExitStack, size_bytes: int) -> Contestants:
    stream = bare_grpc.Stream()
    stack.callback(stream.close)
    return {f"bare grpc {n >> 10} KiB": partial(stream.measure, size_bytes, n) for n in GRPC_MESSAGES}


def _nixl(stack: contextlib.ExitStack, size_bytes: int) -> Contestants:
    writer = other_python.Writer("nixl", size_bytes)
    stack.callback(writer.close)
    return {f"nixl {n >> 20} MiB": partial(writer.measure, min(n, size_bytes)) for n in NIXL_CHUNKS}


def _mooncake(stack: contextlib.ExitStack, size_bytes: int) -> Contestants:
    writer = other_python.Writer("mooncake", size_bytes)
    stack.callback(writer.close)
    return {"mooncake": partial(writer.measure, size_bytes)}


def _keys(medians: dict[str, float]) -> dict[str, float | None]:
    """The ratios that the link is judged by; None where one side did not run."""

    def best(*prefixes: str) -> float | None:
        return max((value for name, value in medians.items() if name.startswith(prefixes)), default=None)

    def ratio(ours: float | None, theirs: float | None) -> float | None:
        return round(ours / theirs, 3) if ours and theirs else None

    tcp = best("tcp x")
    return {
        "tcp_gb_s": tcp and round(tcp, 3),
        "tcp_vs_best_socket": ratio(tcp, best("iperf3", "sockets")),
        "tcp_vs_nixl": ratio(tcp, best("nixl")),
        "tcp_vs_mooncake": ratio(tcp, best("mooncake")),
        "grpc_vs_bare": ratio(best("grpc x"), best("bare grpc")),
        "tls_vs_plain": ratio(best("tls x"), tcp),
    }


def _scaling() -> dict[str, dict[str, float]]:
    """GB/s against transfer size, concurrent transfers and layers: cost must grow linearly."""
    with contextlib.closing(MoverPair(slot_bytes=SLOT_BYTES // 4, staging_mib=256, connections=2, layers=64)) as pair:
        piece = SLOT_BYTES // 4

        def rate(*shapes: Shape) -> float:
            size = sum(shape.size_bytes for shape in shapes)
            return round(statistics.median(size / max(pair.move(*shapes)) for _ in range(5)) / 1e9, 3)

        return {
            "gb_s_by_mib": {str(n): rate(Shape(n * 4, piece)) for n in (1, 4, 16, 64, 256, 1024)},
            "gb_s_by_transfers": {str(n): rate(*[Shape(1024 // n, piece)] * n) for n in (1, 4, 16, 64)},
            "gb_s_by_layers": {str(n): rate(Shape(1024, piece, n)) for n in (1, 4, 16, 64)},
        }


if __name__ == "__main__":
    main()
