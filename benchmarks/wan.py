"""How well caches cross a wide-area link: real kernel TCP between two network namespaces, 1 Gbit/s.

Beside iperf3 with eight connections in the same run, over 30 ms and over 80 ms with 0.1 % loss; transfers of 1 KiB to
1 GiB; small ones while a large one runs; a 3-second outage, and a rate drop to a tenth, in the middle of a transfer.
Needs root and iperf3. MB are 10^6 bytes.

    python -m benchmarks.wan [--rounds 5] [--size-mib 512] [--connections 2] [--rate-mbit 1000]
        [--pace 0.98]
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import report
from benchmarks.mover_pair import MIB, Shape
from benchmarks.peers import iperf3
from benchmarks.wan_pair import Run, WanMoverPair
from prfaas.transport.settings import RateLimit
from tests.wan.wan import ADDRESSES, Wan, missing

SLOT_BYTES = 256 << 10
STAGING_MIB = 256
"""The connector's defaults."""
IPERF_CONNECTIONS = 8
SIZES_BYTES = (1 << 10, 64 << 10, 1 * MIB, 16 * MIB, 128 * MIB, 1024 * MIB)
SMALL = Shape(1, 1 << 10)
SMALL_EVERY_S = 0.25
OUTAGE_S = 3.0
FAULT_AT = 0.3
"""Share of the bytes that have arrived when the fault begins."""


def main() -> None:
    args = _arguments()
    if reason := missing() or iperf3.missing():
        raise SystemExit(reason)
    print(report.hardware())
    rate_mbit = args.rate_mbit
    size_bytes = args.size_mib * MIB
    keys: dict[str, object] = {"rate_mbit": rate_mbit, "size_mib": args.size_mib, "pace": args.pace}
    with Wan(rate_mbit=rate_mbit, rtt_ms=30) as wan, _movers(wan, args) as pair:
        keys |= _compare(wan, pair, size_bytes, args.rounds, "30ms")
        keys |= _sizes(pair, args.rounds)
        keys |= _small_under_load(pair)
        keys |= _faults(wan, pair, size_bytes)
    with Wan(rate_mbit=rate_mbit, rtt_ms=80, loss=0.001) as wan, _movers(wan, args) as pair:
        keys |= _compare(wan, pair, size_bytes, args.rounds, "80ms_loss")
    report.emit("wan", keys)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wan", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds after one warm-up")
    parser.add_argument("--size-mib", type=int, default=512)
    parser.add_argument("--connections", type=int, default=2, help="data connections to begin with")
    parser.add_argument("--rate-mbit", type=float, default=1000)
    parser.add_argument(
        "--pace", type=float, default=0.98, help="share of the link that is configured as its rate, 0: no limit"
    )
    return parser.parse_args()


@contextmanager
def _movers(wan: Wan, args: argparse.Namespace) -> Iterator[WanMoverPair]:
    pair = WanMoverPair(
        wan,
        slot_bytes=SLOT_BYTES,
        staging_mib=STAGING_MIB,
        connections=args.connections,
        rate_limits=(RateLimit(("edge",), args.pace * wan.rate_mbit * 125_000),) if args.pace else (),
    )
    try:
        yield pair
    finally:
        pair.close()


def _shape(size_bytes: int) -> Shape:
    return Shape(1, size_bytes) if size_bytes < SLOT_BYTES else Shape(size_bytes // SLOT_BYTES, SLOT_BYTES)


def _compare(wan: Wan, pair: WanMoverPair, size_bytes: int, rounds: int, name: str) -> dict[str, object]:
    """Our goodput beside iperf3's, in MB/s."""

    def ours() -> float:
        return size_bytes / pair.run(_shape(size_bytes)).seconds / 1e6

    def theirs() -> float:
        seconds = iperf3.measure(
            size_bytes,
            IPERF_CONNECTIONS,
            host=ADDRESSES["edge"],
            at_server=wan.command("edge"),
            at_client=wan.command("cloud"),
        )
        return size_bytes / seconds / 1e6

    print(f"{name}: MB/s")
    medians = report.medians(report.interleaved({"prfaas": ours, "iperf3": theirs}, rounds))
    (link,) = pair.figures().links
    print(f"  {link}")
    return {
        f"vs_iperf3_{name}": round(medians["prfaas"] / medians["iperf3"], 3),
        f"mb_s_{name}": {contestant: round(value, 1) for contestant, value in medians.items()},
        f"connections_{name}": link.connections,
    }


def _sizes(pair: WanMoverPair, rounds: int) -> dict[str, object]:
    """Seconds from the decode engine's first word to its last, against size, on an idle link."""
    median_s = {}
    for size_bytes in SIZES_BYTES:
        times = rounds if size_bytes <= 16 * MIB else 1
        median_s[size_bytes >> 10] = statistics.median(pair.run(_shape(size_bytes)).seconds for _ in range(times))
        print(f"  {size_bytes >> 10:>8} KiB {median_s[size_bytes >> 10] * 1e3:9.1f} ms")
    return {"alone_ms_by_kib": {kib: round(seconds * 1e3, 1) for kib, seconds in median_s.items()}}


def _small_under_load(pair: WanMoverPair) -> dict[str, object]:
    """Small transfers, one after the other, while 1 GiB crosses."""
    next_s = time.monotonic() + 1.0

    def begin_small(run: Run) -> None:
        nonlocal next_s
        if time.monotonic() >= next_s and len(run.unfinished) == 1:
            next_s = time.monotonic() + SMALL_EVERY_S
            run.begin(SMALL)

    run = pair.run(_shape(1024 * MIB), begin_small)
    small_ms = sorted(seconds * 1e3 for seconds in list(run.done_s.values()) if seconds != run.seconds)
    print(f"  small under load: {[round(each) for each in small_ms]} ms")
    return {
        "small_under_load_ms": round(statistics.median(small_ms), 1),
        "small_under_load_max_ms": round(small_ms[-1], 1),
    }


def _faults(wan: Wan, pair: WanMoverPair, size_bytes: int) -> dict[str, object]:
    """An outage and a rate drop, each in the middle of a transfer: what was lost, what left twice."""
    lost_bytes = 0
    before = pair.figures()
    seconds = {}
    for name in ("outage", "rate_drop"):
        fault = _Fault(wan, size_bytes * FAULT_AT, name)
        run = pair.run(_shape(size_bytes), fault)
        fault.heal()
        lost_bytes += size_bytes - run.arrived_bytes
        seconds[name] = round(run.seconds, 2)
    after = pair.figures()
    print(f"  seconds with a fault: {seconds}; failed saves: {after.failed_saves}")
    return {
        "lost_bytes": lost_bytes,
        "resent_share": round((after.resent_bytes - before.resent_bytes) / (2 * size_bytes), 5),
        "fault_s": seconds,
    }


class _Fault:
    """Something that happens to the link for three seconds."""

    def __init__(self, wan: Wan, at_bytes: float, kind: str) -> None:
        self._wan, self._at_bytes, self._kind = wan, at_bytes, kind
        self._rate_mbit = wan.rate_mbit
        self._until_s = 0.0
        self._is_over = False

    def __call__(self, run: Run) -> None:
        if not self._until_s and run.arrived_bytes >= self._at_bytes:
            self._until_s = time.monotonic() + OUTAGE_S
            if self._kind == "outage":
                self._wan.down()
            else:
                self._wan.set(rate_mbit=self._rate_mbit / 10)
        elif self._until_s and not self._is_over and time.monotonic() >= self._until_s:
            self.heal()

    def heal(self) -> None:
        """The link is as before."""
        self._is_over = True
        self._wan.up()
        self._wan.set(rate_mbit=self._rate_mbit)


if __name__ == "__main__":
    main()
