"""Two movers with a wide-area link between them, for ``benchmarks.wan``."""

import time
from collections.abc import Callable
from dataclasses import replace

from fastcrc.crc32 import iscsi as crc32c

from benchmarks.mover_pair import PATIENCE_S, MoverPair, Shape, Transfer
from prfaas.transport.messages import Arrived, AskStatistics, OfferSave, OpenLoad, StartLoad, Statistics, ToEngine
from prfaas.transport.process import MoverConfig, MoverProcess
from prfaas.types import MoverStatistics
from tests.wan.wan import ADDRESSES, Wan

SMALL_RESERVE_SLOTS = 16
"""Send slots that a large transfer leaves free, as the engine's connector does: what is measured is the link."""


class WanMoverPair(MoverPair):
    """Movers in both sites of a WAN. Every received byte is compared with what was sent.

    Attributes:
        verified_bytes: received bytes that are as they were sent.
    """

    def __init__(self, wan: Wan, **settings: object) -> None:
        self._wan = wan
        self.verified_bytes = 0
        self._checksums: dict[int, int] = {}
        self._figures: MoverStatistics | None = None
        super().__init__(**settings)  # type: ignore[arg-type]  # fields by name

    def run(self, shape: Shape, meanwhile: Callable[["Run"], None] = lambda run: None) -> "Run":
        """Move one large transfer, calling ``meanwhile`` again and again; it may begin small ones."""
        run = Run(self)
        large = run.begin(shape)
        while run.unfinished:
            meanwhile(run)
            reserve = self._free[:SMALL_RESERVE_SLOTS]
            if large in run.unfinished and len(run.unfinished) == 1:
                del self._free[:SMALL_RESERVE_SLOTS]
                self._stage(run.unfinished)
                self._free[:0] = reserve
            else:
                self._stage(dict(reversed(run.unfinished.items())))
            for name in self._hear():
                run.end(name)
            if time.monotonic() - run.began_s > PATIENCE_S:
                raise TimeoutError("the movers did not finish")
        run.seconds = run.done_s[large]
        self._until(lambda: len(self._free) == self.prefill.staging.send_slots)
        return run

    def begin(self, shape: Shape) -> str:
        """Open a transfer on both sides."""
        name = f"t{next(self._names)}"
        self._prefill_scheduler.send(OfferSave(name, "secret", shape.tokens, PATIENCE_S))
        self._decode_scheduler.send(OpenLoad(name, "secret", self.prefill.listen, PATIENCE_S))
        self._decode_scheduler.send(StartLoad(name, 0, shape.tokens))
        return name

    def figures(self) -> MoverStatistics:
        """The prefill mover's figures now."""
        self._figures = None
        self.prefill.channel.send(AskStatistics())
        self._until(lambda: self._figures is not None)
        assert self._figures is not None
        return self._figures

    def _spawn(self, config: MoverConfig) -> MoverProcess:
        with self._wan.inside(config.engine_id):
            return MoverProcess.spawn(replace(config, listen=f"{ADDRESSES[config.engine_id]}:0"))

    def _arrived(self, message: Arrived) -> None:
        for piece in message.pieces:
            slot = self.decode.staging.receive_slot(piece.slot)
            if crc32c(slot[8 : piece.length]) == self._expected(piece.length):
                self.verified_bytes += piece.length

    def _expected(self, length: int) -> int:
        """The checksum of a piece from its ninth byte on: there all send slots are equal."""
        if length not in self._checksums:
            self._checksums[length] = crc32c(self.prefill.staging.send_slot(0)[8:length])
        return self._checksums[length]

    def _told(self, message: ToEngine) -> None:
        if isinstance(message, Statistics):
            self._figures = message.figures


class Run:
    """One large transfer and what went on beside it.

    Attributes:
        unfinished: transfers under way, oldest first.
        done_s: seconds that each finished transfer took.
        seconds: those of the large one.
    """

    def __init__(self, pair: WanMoverPair) -> None:
        self._pair = pair
        self._began_s: dict[str, float] = {}
        self._verified_before = pair.verified_bytes
        self.began_s = time.monotonic()
        self.unfinished: dict[str, Transfer] = {}
        self.done_s: dict[str, float] = {}
        self.seconds = 0.0

    @property
    def arrived_bytes(self) -> int:
        """Verified bytes of all transfers of this run."""
        return self._pair.verified_bytes - self._verified_before

    def begin(self, shape: Shape) -> str:
        """Begin a transfer; return its name."""
        name = self._pair.begin(shape)
        self._began_s[name] = time.monotonic()
        self.unfinished[name] = Transfer(shape)
        return name

    def end(self, name: str) -> None:
        """A transfer is complete."""
        self.done_s[name] = time.monotonic() - self._began_s[name]
        del self.unfinished[name]
