"""What a link carries now, which its configured bandwidth only promises.

    saturated      what is queued would take WAIT_S at the present goodput, or CONGESTED_WAIT_S with congestion
                   reported; or it has been SHOWN_BYTES at every look for WAIT_S. The goodput is what the link carries
    not saturated  nothing shows how much more it would carry. The last known capacity is kept for HOLD_S, then it
                   doubles every DOUBLING_S up to the bandwidth: whoever uses it finds out whether that was too much

A link that falls is noticed by its queue within seconds. One that comes back shows it by the first cache that crosses
faster, because several engines make more at times than a narrow link carries; else it is found out within minutes.
"""

from prfaas.routing.snapshot import LinkState

WAIT_S = 2.0
CONGESTED_WAIT_S = 0.5
HOLD_S = 120.0
DOUBLING_S = 60.0
MAX_DOUBLINGS = 60.0
"""In one step, however long ago the last one was: further than any two bandwidths are apart."""
SHOWN_BYTES = float(128 << 20)
"""Half of what one engine has room for (``engine/settings.py``, ``send_mib``). More waits in its blocks, where no mover
counts it, so a longer queue may never be seen; one that empties at times is no sign."""
SMOOTHING_S = 3.0
"""Goodputs are measured over moments; a capacity follows them over so long."""


class LinkCapacity:
    """One link's, in bytes/s."""

    def __init__(self) -> None:
        self._bytes_s = 0.0
        self._at_s = 0.0
        self._saturated_s: float | None = None
        self._shown_s: float | None = None

    def step(self, now_s: float, link: LinkState) -> float:
        """The capacity now; never above the configured bandwidth."""
        bandwidth, goodput = max(link.bandwidth_bytes_s, 0.0), max(link.goodput_bytes_s, 0.0)
        passed_s, self._at_s = now_s - self._at_s, now_s
        if self._is_saturated(now_s, link):
            share = 1.0 if self._saturated_s is None else min(passed_s / SMOOTHING_S, 1.0)
            self._bytes_s += (goodput - self._bytes_s) * share
            self._saturated_s = now_s
        elif self._saturated_s is not None:
            is_held = now_s - self._saturated_s <= HOLD_S
            growth = 1.0 if is_held else 2.0 ** min(passed_s / DOUBLING_S, MAX_DOUBLINGS)
            self._bytes_s = max(self._bytes_s * growth, goodput)
            if self._bytes_s >= bandwidth:
                self._saturated_s = None
        if self._saturated_s is None:
            self._bytes_s = bandwidth
        self._bytes_s = min(self._bytes_s, bandwidth)
        return self._bytes_s

    def _is_saturated(self, now_s: float, link: LinkState) -> bool:
        """Whether what is made faster than it leaves shows the link's limit. What is under way does not wait."""
        waiting = link.queued_bytes - link.utilisation * link.bandwidth_bytes_s * link.rtt_s
        if waiting < SHOWN_BYTES:
            self._shown_s = None
        elif self._shown_s is None:
            self._shown_s = now_s
        is_long_shown = self._shown_s is not None and now_s - self._shown_s >= WAIT_S
        wait_s = CONGESTED_WAIT_S if link.is_congested else WAIT_S
        return link.goodput_bytes_s > 0 and (is_long_shown or waiting >= wait_s * link.goodput_bytes_s)
