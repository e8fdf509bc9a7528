"""When a path counts as congested."""

from prfaas.transport.congestion import STALE_S, CongestionSignal
from prfaas.transport.tcp_info import PathSample


def fed(
    signal: CongestionSignal, *, rtt_s: float = 0.03, sent: int = 0, retransmitted: int = 0, now_s: float = 0.0
) -> bool:
    path = PathSample(sent_segments=sent, retransmitted_segments=retransmitted)
    signal.update(path, rtt_s, 0.03, now_s)
    return signal.is_congested


def test_a_doubled_round_trip_is_congestion_until_it_has_clearly_fallen() -> None:
    """Between the two thresholds the signal keeps what it said."""
    signal = CongestionSignal()
    assert not fed(signal, rtt_s=0.055)
    assert fed(signal, rtt_s=0.065)
    assert fed(signal, rtt_s=0.050)
    assert not fed(signal, rtt_s=0.040)
    assert not fed(signal, rtt_s=0.055)


def test_a_short_path_needs_more_than_a_multiple() -> None:
    """A millisecond instead of a tenth of one is a busy processor, not a queue."""
    signal = CongestionSignal()
    signal.update(PathSample(), 0.001, 0.0001, 0.0)
    assert not signal.is_congested
    signal.update(PathSample(), 0.025, 0.0001, 0.0)
    assert signal.is_congested


def test_random_loss_of_a_clean_path_is_no_congestion() -> None:
    """One segment in a thousand may be lost for ever; one in twenty is a full queue, until it stops."""
    signal = CongestionSignal()
    assert not any(fed(signal, sent=1000, retransmitted=1) for _ in range(50))
    assert fed(signal, sent=1000, retransmitted=50)
    assert not fed(signal, sent=5000, retransmitted=5)


def test_one_lost_segment_among_few_is_no_congestion() -> None:
    """A rate needs some segments before it counts."""
    assert not fed(CongestionSignal(), sent=3, retransmitted=1)


def test_old_losses_are_forgotten() -> None:
    """After a pause nothing is known of the path."""
    signal = CongestionSignal()
    assert fed(signal, sent=1000, retransmitted=500, now_s=1.0)
    assert fed(signal, now_s=1.0 + STALE_S)
    assert not fed(signal, now_s=1.1 + STALE_S)
    assert signal.retransmit_rate == 0.0
