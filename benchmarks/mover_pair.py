"""Two real mover processes and the engines' part of a transfer, without the copies that engines make."""

import datetime
import os
import select
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from prfaas.config import certificate_name
from prfaas.transport.certificates import issue
from prfaas.transport.channel import EngineChannel
from prfaas.transport.messages import (
    MAX_PIECES_PER_MESSAGE,
    Arrived,
    LoadComplete,
    LoadFailed,
    LoadUsed,
    OfferSave,
    OpenLoad,
    SaveEnd,
    SlotPiece,
    SlotsDone,
    SlotsFree,
    Staged,
    StartLoad,
    ToEngine,
)
from prfaas.transport.process import MoverConfig, MoverProcess
from prfaas.transport.settings import TlsSettings
from prfaas.types import Fingerprint, Part

MIB = 1 << 20
PATIENCE_S = 120.0
PIECE_TOKENS = 16
LOOK_S = 0.001
"""Engines look at their mover's messages once a step, and while they wait once a millisecond."""


@dataclass(frozen=True)
class Shape:
    """A transfer: so many pieces of so many bytes, spread over so many layers."""

    pieces: int
    piece_bytes: int
    layers: int = 1

    @property
    def size_bytes(self) -> int:
        return self.pieces * self.piece_bytes

    def piece(self, at: int, slot: int) -> SlotPiece:
        """The piece number ``at``, in this slot."""
        row, layer = divmod(at, self.layers)
        return SlotPiece(layer, Part.KV, 0, row * PIECE_TOKENS, PIECE_TOKENS, self.piece_bytes, slot)

    @property
    def tokens(self) -> int:
        return -(-self.pieces // self.layers) * PIECE_TOKENS


@dataclass
class Transfer:
    """A transfer under way."""

    shape: Shape
    staged: int = 0


class MoverPair:
    """A prefill and a decode mover on loopback, connected and warm.

    ``move`` runs transfers side by side and returns the seconds from the decode engine's first word to its last. The
    send slots are written once before (with data that differs from slot to slot); received slots go back at once.
    """

    def __init__(
        self,
        *,
        slot_bytes: int,
        staging_mib: int,
        connections: int,
        layers: int = 1,
        over_grpc: bool = False,
        certificates: Path | None = None,
        **changes: object,
    ) -> None:
        slots = staging_mib * MIB // slot_bytes
        config = MoverConfig(
            engine_id="cloud",
            epoch=1,
            fingerprint=Fingerprint({"model": "benchmark"}, tuple(f"layer.{i}" for i in range(layers))),
            listen="127.0.0.1:0",
            advertise_host=None,
            peers=(),
            slot_bytes=slot_bytes,
            send_slots=slots,
            receive_slots=slots,
            data_connections=connections,
        )
        config = replace(config, **changes)  # type: ignore[arg-type]  # fields by name
        self.prefill = self._spawn(replace(config, tls=_tls(certificates, "cloud") if certificates else None))
        remote = self.prefill.listen
        tls = _tls(certificates, "edge", {remote: certificate_name("cloud")}) if certificates else None
        grpc_peers = (remote,) if over_grpc else ()
        self.decode = self._spawn(replace(config, engine_id="edge", epoch=2, tls=tls, grpc_peers=grpc_peers))
        self._prefill_scheduler = EngineChannel.connect(self.prefill.socket_path)
        self._decode_scheduler = EngineChannel.connect(self.decode.socket_path)
        self._free = list(range(slots))
        self._names = count()
        self._fill(slots, slot_bytes)

    def close(self) -> None:
        for channel in (self._prefill_scheduler, self._decode_scheduler):
            channel.close()
        self.decode.close()
        self.prefill.close()

    def cpu_s(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Processor seconds (own, kernel) that the prefill and the decode mover have used."""
        return _cpu_s(self.prefill.pid), _cpu_s(self.decode.pid)

    def move(self, *shapes: Shape) -> list[float]:
        """Move these at the same time; return, for each, when it was complete in seconds after the beginning."""
        transfers = {f"t{next(self._names)}": Transfer(shape) for shape in shapes}
        began_s = time.monotonic()
        for name, transfer in transfers.items():
            self._prefill_scheduler.send(OfferSave(name, "secret", transfer.shape.tokens, PATIENCE_S))
            self._decode_scheduler.send(OpenLoad(name, "secret", self.prefill.listen, PATIENCE_S))
            self._decode_scheduler.send(StartLoad(name, 0, transfer.shape.tokens))
        done_s: dict[str, float] = {}
        while len(done_s) < len(transfers):
            self._stage(transfers)
            for name in self._hear():
                done_s[name] = time.monotonic() - began_s
            if time.monotonic() - began_s > PATIENCE_S:
                raise TimeoutError("the movers did not finish")
            if len(done_s) < len(transfers):
                time.sleep(LOOK_S)  # as an engine, which looks once a step, and spends nothing in between
        self._until(lambda: len(self._free) == self.prefill.staging.send_slots)
        return [done_s[name] for name in transfers]

    def _spawn(self, config: MoverConfig) -> MoverProcess:
        """Start a mover where its engine is."""
        return MoverProcess.spawn(config)

    def _arrived(self, message: Arrived) -> None:
        """Pieces have arrived; their slots go back right after."""

    def _told(self, message: ToEngine) -> None:
        """Anything else that the prefill side's worker hears."""

    def _fill(self, slots: int, slot_bytes: int) -> None:
        data = os.urandom(slot_bytes)
        for slot in range(slots):
            view = self.prefill.staging.send_slot(slot)
            view[:] = data
            view[:8] = slot.to_bytes(8, "big")

    def _stage(self, transfers: dict[str, Transfer]) -> None:
        """Lend free slots to the transfers in turns."""
        for name, transfer in transfers.items():
            if transfer.staged == transfer.shape.pieces:
                continue
            share = min(MAX_PIECES_PER_MESSAGE, transfer.shape.pieces - transfer.staged, len(self._free))
            pieces = [transfer.shape.piece(transfer.staged + i, self._free.pop()) for i in range(share)]
            if pieces:
                self.prefill.channel.send(Staged(name, pieces))
                transfer.staged += share
            if transfer.staged == transfer.shape.pieces:
                self.prefill.channel.send(SaveEnd(name, transfer.shape.tokens, time.monotonic()))

    def _hear(self) -> list[str]:
        """Wait for the movers; return the transfers that are complete."""
        select.select([self.prefill.channel, self.decode.channel], [], [], 1.0)
        done: list[str] = []
        for message in self.prefill.channel.poll():
            if isinstance(message, SlotsFree):
                self._free += message.slots
            else:
                self._told(message)
        for heard in self.decode.channel.poll():
            if isinstance(heard, Arrived):
                self._arrived(heard)
                self.decode.channel.send(SlotsDone([piece.slot for piece in heard.pieces]))
            elif isinstance(heard, LoadComplete):
                done.append(heard.transfer_id)
                self.decode.channel.send(LoadUsed(heard.transfer_id, ok=True, reason=""))
            elif isinstance(heard, LoadFailed):
                raise RuntimeError(heard.reason)
        return done

    def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._hear()


def make_certificates(folder: Path) -> None:
    """Certificates of both engines, for ``MoverPair``."""
    names = {site: [certificate_name(site)] for site in ("cloud", "edge")}
    issue(folder, names, datetime.datetime.now(datetime.UTC), days=1)


def _tls(folder: Path, site: str, names: dict[str, str] | None = None) -> TlsSettings:
    ca, cert, key = (str(folder / name) for name in ("ca.crt", f"{site}.crt", f"{site}.key"))
    return TlsSettings(ca, cert, key, names or {}, decode_names=(certificate_name("edge"),))


def _cpu_s(pid: int) -> tuple[float, float]:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    return int(fields[11]) * tick_s, int(fields[12]) * tick_s
