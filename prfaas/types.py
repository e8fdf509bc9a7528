"""Frozen values that several packages speak of."""

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from itertools import zip_longest
from typing import Any, Literal


class Part(enum.IntEnum):
    """What kind of cache bytes a piece holds."""

    KV = 1
    """Rows of an attention layer (K and V, or an MLA latent): reusable for any prefix."""
    STATE = 2
    """One tensor of a recurrent layer's state: valid at exactly one token count."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One contiguous run of cache bytes of one layer, as it is staged, framed and injected.

    Attributes:
        layer: index into the layer table of the transfer (see ``Fingerprint.layers``).
        part: what the bytes are.
        index: position of the tensor in the layer's state (0 for ``Part.KV``).
        first: first token of the rows (``Part.KV``) or byte offset inside the tensor (``Part.STATE``).
        count: number of valid tokens (``Part.KV``), 0 for ``Part.STATE``. The rows in the payload may be
            padded beyond ``count`` to the layer's row granularity.
        length: payload bytes.
    """

    layer: int
    part: Part
    index: int
    first: int
    count: int
    length: int


@dataclass(frozen=True)
class Fingerprint:
    """What two engines must agree on before cache bytes may pass between them.

    Attributes:
        fields: flat, ordered text facts (vLLM version, model, dtype, layouts, block sizes, ...). Every
            field must be equal on both sides; a mismatch names the first that differs.
        layers: names of all layers whose cache is transferred; a piece's ``layer`` is an index into it.
    """

    fields: Mapping[str, str]
    layers: tuple[str, ...]

    def mismatch(self, other: "Fingerprint") -> tuple[str, str, str] | None:
        """Return ``(field, ours, theirs)`` of the first disagreement, or None when both agree."""
        for name in dict.fromkeys((*self.fields, *other.fields)):
            ours, theirs = self.fields.get(name, "(absent)"), other.fields.get(name, "(absent)")
            if ours != theirs:
                return name, ours, theirs
        if self.layers != other.layers:
            at, ours, theirs = self._first_other_layer(other)
            return f"layer {at} of {len(self.layers)} and {len(other.layers)}", ours, theirs
        return None

    def _first_other_layer(self, other: "Fingerprint") -> tuple[int, str, str]:
        pairs = enumerate(zip_longest(self.layers, other.layers, fillvalue="(absent)"))
        return next((at, ours, theirs) for at, (ours, theirs) in pairs if ours != theirs)


@dataclass(frozen=True, slots=True)
class TransferReport:
    """What a transfer did, as the decode side saw it; the evidence behind headers and metrics.

    Attributes:
        transfer_id: id given by the gateway.
        ok: the cache was complete, verified and handed to the engine.
        reason: why not, empty when ``ok``.
        tokens: prompt tokens whose cache came from the remote site and was used.
        held_tokens: prompt tokens the decode side already held.
        cache_bytes: payload bytes received.
        early_bytes: of those, bytes that had arrived before the remote prefill ended.
        open_s: seconds from dialing to the verified manifest.
        prefilled_s: to the end of the remote prefill, as far as the two clocks are known to agree.
        first_s: to the first cache bytes.
        last_s: to the last ones that came.
        used_s: to the engine's last word: everything is in its blocks.

    All seconds count from the dialing; 0 for what did not happen, or was not told by an older engine.
    """

    transfer_id: str
    ok: bool
    reason: str = ""
    tokens: int = 0
    held_tokens: int = 0
    cache_bytes: int = 0
    early_bytes: int = 0
    open_s: float = 0.0
    prefilled_s: float = 0.0
    first_s: float = 0.0
    last_s: float = 0.0
    used_s: float = 0.0


def _counter(text: str) -> Any:
    return field(default=0, metadata={"help": text, "is_counter": True})


def _gauge(text: str) -> Any:
    return field(default=0, metadata={"help": text, "is_counter": False})


@dataclass(frozen=True, slots=True)
class LinkStatistics:
    """One direction between an engine and one peer, as this engine sees it now; counters run since the engine began.

    The sending side's goodput leaves out what a slow prefill made of it; the receiving side cannot tell a slow prefill
    from a slow link. Only the sending side knows of resent bytes, TCP segments and bytes in flight. A credit stall is
    time with data (or a load that waits for some) and no credit: the decode engine is too slow.

    Attributes:
        peer: engine id of the other side.
        is_sending: caches flow to the peer; else they come from it.

    All others are metrics and explain themselves in their metadata.
    """

    peer: str
    is_sending: bool
    connections: int = _gauge("Data connections that are open.")
    delivered_bytes: int = _counter("Cache bytes that the decode side has verified.")
    resent_bytes: int = _counter("Cache bytes that left again because they did not arrive.")
    goodput_bytes_s: float = _gauge("Delivered bytes per second of active time, moving average.")
    bandwidth_bytes_s: float = _gauge("Configured bandwidth, 0 when none is.")
    utilisation: float = _gauge("Share of the configured bandwidth in use, moving average over all time.")
    rtt_s: float = _gauge("Round trip now, queues on the path included.")
    min_rtt_s: float = _gauge("Shortest round trip seen.")
    retransmitted_segments: int = _counter("TCP segments of cache data that were sent again.")
    retransmit_rate: float = _gauge("Recent share of retransmitted segments.")
    in_flight_bytes: int = _gauge("Cache bytes handed to the network and not acknowledged by the decode side.")
    queued_bytes: int = _gauge("Cache bytes that wait: sending for connection or credit, receiving for the engine.")
    active_s: float = _counter("Time with cache bytes on their way.")
    credit_stall_s: float = _counter("Time in which data waited for credit of the decode side.")
    is_congested: bool = _gauge("1 when queues on the path grow, or it drops more than random loss explains.")


@dataclass(frozen=True, slots=True)
class MoverStatistics:
    """A mover's figures at one moment: field for field the reply of ``KvLink.Statistics``.

    Attributes:
        links: both directions of every peer that there was a session with.

    All others are metrics and explain themselves in their metadata; counters run since the mover began.
    """

    open_loads: int = _gauge("Loads that are not over.")
    open_saves: int = _gauge("Saves that are not over.")
    lent_send_slots: int = _gauge("Send slots of the staging memory that the worker has not got back.")
    lent_receive_slots: int = _gauge("Receive slots that are being filled, or lent to the worker.")
    dialed_sessions: int = _gauge("Sessions with prefill engines, dialed here.")
    accepted_sessions: int = _gauge("Sessions with decode engines, dialed there.")
    sent_bytes: int = _counter("Cache bytes that left.")
    received_bytes: int = _counter("Cache bytes that came.")
    completed_loads: int = _counter("Loads that came to their end.")
    failed_loads: int = _counter("Loads that did not: their requests are recomputed.")
    completed_saves: int = _counter("Saves that came to their end.")
    failed_saves: int = _counter("Saves that did not.")
    resent_bytes: int = _counter("Cache bytes that left in frames that had been sent before.")
    dropped_spans: int = _counter("Spans of traces that nobody took in time.")
    links: tuple[LinkStatistics, ...] = ()


@dataclass(frozen=True, slots=True)
class FieldMetric:
    """How a field of ``LinkStatistics`` or ``MoverStatistics`` appears in Prometheus.

    Attributes:
        name: without the ``_total`` of a counter.
    """

    field: str
    name: str
    text: str
    is_counter: bool

    @property
    def kind(self) -> Literal["counter", "gauge"]:
        return "counter" if self.is_counter else "gauge"


_SPELT = (
    ("_bytes_s$", "_bytes_per_second"),
    ("_s$", "_seconds"),
    ("utilisation$", "utilisation_ratio"),
    ("_rate$", "_ratio"),
)
"""Units as Prometheus wants them: in full, and "ratio" for shares."""


def _metrics_of(of: type[Any], prefix: str) -> tuple[FieldMetric, ...]:
    return tuple(
        FieldMetric(each.name, prefix + _spelt(each.name), each.metadata["help"], each.metadata["is_counter"])
        for each in fields(of)
        if each.metadata
    )


def _spelt(name: str) -> str:
    for ending, unit in _SPELT:
        name = re.sub(ending, unit, name)
    return name.removeprefix("is_")


LINK_METRICS = _metrics_of(LinkStatistics, "prfaas_link_")
MOVER_METRICS = _metrics_of(MoverStatistics, "prfaas_mover_")
