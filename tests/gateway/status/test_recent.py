"""What the kept decisions amount to, by hand."""

from prfaas.gateway.status.make import recent_of
from prfaas.gateway.status.recent import Reuse, kept_of, kept_together, quantile, reuse_by_engine
from prfaas.observe.decisions import Decision
from prfaas.types import TransferReport


def decision(request_id: str, outcome: str, **changes: object) -> Decision:
    plain = Decision(request_id, "chat", "local", "d", None, ("short",), 100, None, uncached_tokens=40, outcome=outcome)
    plain.note(**changes)
    return plain


DECISIONS = [
    decision("4", "running", prompt_tokens=None, uncached_tokens=None, arrived_unix_s=40.0),
    decision("3", "refused", decode="", uncached_tokens=None, arrived_unix_s=30.0),
    decision(
        "2",
        "remote",
        prefill="p",
        uncached_tokens=90,
        is_stream=True,
        first_output_s=0.5,
        arrived_unix_s=20.0,
        report=TransferReport("t", ok=True, tokens=99, cache_bytes=1000, early_bytes=800),
    ),
    decision("1", "local", is_stream=True, first_output_s=0.1, arrived_unix_s=10.0),
    decision("0", "local", is_stream=False, first_output_s=9.0),
]


def test_recent() -> None:
    """Reuse counts where it is known, transfers where they were used, first outputs where answers were streamed."""
    recent = recent_of(kept_of(DECISIONS, 256))
    assert (recent.requests, recent.capacity, recent.since_unix_s) == (5, 256, 10.0)
    assert recent.outcomes == {"running": 1, "refused": 1, "remote": 1, "local": 2}
    assert (recent.prompt_tokens, recent.reused_tokens) == (300, 130)
    assert (recent.remote_tokens, recent.cache_bytes, recent.early_bytes) == (99, 1000, 800)
    assert (recent.first_output_p50_s, recent.first_output_p95_s) == (0.1, 0.5)


def test_nothing_has_come_yet() -> None:
    """What nobody knows is None, not 0."""
    recent = recent_of(kept_of([], 256))
    assert (recent.requests, recent.since_unix_s, recent.first_output_p50_s) == (0, None, None)


def test_several_workers_have_kept_what_one_would_have() -> None:
    """However the requests fell to them, and with places for as many more."""
    parts = [kept_of(DECISIONS[:2], 256), kept_of(DECISIONS[2:], 256), kept_of([], 256)]
    assert kept_together(parts) == kept_of(DECISIONS, 3 * 256)


def test_reuse_counts_at_the_engine_that_prefills() -> None:
    """A refused request was no engine's."""
    assert reuse_by_engine(DECISIONS) == {"d": Reuse(3, 200, 120), "p": Reuse(1, 100, 10)}


def test_quantile() -> None:
    """The smallest value that this share does not exceed."""
    assert [quantile([1, 2, 3, 4], share) for share in (0.0, 0.25, 0.5, 0.51, 1.0)] == [1, 1, 2, 3, 4]
