"""Is a path congested? Decided from round trips and retransmits, with hysteresis; pure, time is an argument."""

import math

from prfaas.transport.tcp_info import PathSample

INFLATED_RATIO, INFLATED_S = 2.0, 0.020
"""Congested when the round trip is twice the shortest one and 20 ms longer: a busy processor alone adds a few ms."""
RELAXED_RATIO, RELAXED_S = 1.5, 0.010
LOSSY_RATE, CLEAN_RATE = 0.01, 0.0025
"""Share of retransmitted segments: a clean long-distance path stays below 0.1 %, a full queue passes 1 % quickly."""
WEIGHT_SEGMENTS = 500
"""Segments over which the retransmit rate is smoothed: a single lost one is no congestion."""
STALE_S = 10.0
"""Nothing sent for so long: the last losses say nothing about now."""


class CongestionSignal:
    """Fed with the path's figures a few times a second.

    Attributes:
        retransmit_rate: smoothed share of the segments that were sent again.
    """

    def __init__(self) -> None:
        self.retransmit_rate = 0.0
        self._is_inflated = self._is_lossy = False
        self._sent_s = -math.inf

    @property
    def is_congested(self) -> bool:
        """The path is slower, or loses more, than it would if it were not full."""
        return self._is_inflated or self._is_lossy

    def update(self, path: PathSample, rtt_s: float, min_rtt_s: float, now_s: float) -> None:
        """Take in a sample, and the present and the shortest round trip (0 when unknown)."""
        self._round_trip(rtt_s, min_rtt_s)
        self._loss(path.sent_segments, path.retransmitted_segments, now_s)

    def _round_trip(self, rtt_s: float, min_rtt_s: float) -> None:
        if not rtt_s or not min_rtt_s:
            self._is_inflated = False
            return
        ratio, floor_s = (RELAXED_RATIO, RELAXED_S) if self._is_inflated else (INFLATED_RATIO, INFLATED_S)
        self._is_inflated = rtt_s > min_rtt_s * ratio and rtt_s - min_rtt_s > floor_s

    def _loss(self, sent: int, retransmitted: int, now_s: float) -> None:
        if sent:
            self._sent_s = now_s
            weight = 1 - math.exp(-sent / WEIGHT_SEGMENTS)
            self.retransmit_rate += weight * (min(1.0, retransmitted / sent) - self.retransmit_rate)
        elif now_s - self._sent_s > STALE_S:
            self.retransmit_rate = 0.0
        self._is_lossy = self.retransmit_rate > (CLEAN_RATE if self._is_lossy else LOSSY_RATE)
