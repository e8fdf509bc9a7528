"""A mover's figures at one moment."""

from dataclasses import dataclass

from prfaas.types import LinkStatistics


@dataclass(frozen=True, slots=True)
class MoverStatistics:
    """Field for field the reply of ``KvLink.Statistics``.

    Attributes:
        open_loads, open_saves: transfers that are not over.
        lent_send_slots: send slots that the worker has not got back.
        lent_receive_slots: receive slots that are being filled or lent to the worker.
        dialed_sessions, accepted_sessions: sessions by who dialed.
        sent_bytes, received_bytes: payload bytes since the start.
        resent_bytes: of the sent ones, those of frames that did not arrive the first time.
        completed_loads, failed_loads, completed_saves, failed_saves: transfers that are over, since the start.
        dropped_spans: of traces, since the start.
        links: both directions of every peer that there was a session with.
    """

    open_loads: int = 0
    open_saves: int = 0
    lent_send_slots: int = 0
    lent_receive_slots: int = 0
    dialed_sessions: int = 0
    accepted_sessions: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    completed_loads: int = 0
    failed_loads: int = 0
    completed_saves: int = 0
    failed_saves: int = 0
    resent_bytes: int = 0
    dropped_spans: int = 0
    links: tuple[LinkStatistics, ...] = ()
