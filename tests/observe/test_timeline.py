"""One request's way as a timeline, by numbers worked out by hand."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from prfaas.observe.decisions import ANSWERED, Decision, Try
from prfaas.observe.timeline import Stage, timeline
from prfaas.types import TransferReport

SITES = {"d": "edge", "p": "cloud"}
REPORT = TransferReport(
    "t", ok=True, tokens=900, open_s=1.1, prefilled_s=1.0, first_s=0.3, last_s=1.1, used_s=1.2, cache_bytes=9
)
REMOTE = Decision(
    "r",
    "chat",
    "remote",
    "d",
    "p",
    ("long",),
    900,
    "t",
    placed_after_s=0.5,
    outcome="remote",
    first_output_s=1.9,
    total_s=3.0,
    waited_s=0.2,
    is_stream=True,
    read_after_s=0.1,
    tokenised_after_s=0.25,
    prefilled_after_s=1.7,
    reported_after_s=1.75,
    report=REPORT,
    tries=(Try("d", "p", "decode", ANSWERED, 1.4, 0.5),),
)


def told(decision: Decision) -> list[tuple[str, float, float | None, str]]:
    """Stage, beginning, end, and where, to the millisecond."""
    stages = timeline(decision, SITES, "edge")
    return [
        (each.stage, round(each.begin_s, 3), None if each.end_s is None else round(each.end_s, 3), each.engine)
        for each in stages
    ]


def test_a_remote_prefill() -> None:
    """The report came 1.75 s after the arrival and 1.2 s after the dialing, so that was at 0.55 s: all that the decode
    side counts is laid onto the gateway's clock from there, and the transfer overlaps the prefill."""
    assert told(REMOTE) == [
        ("read", 0.0, 0.1, ""),
        ("tokenise", 0.1, 0.25, ""),
        ("queue", 0.25, 0.45, ""),
        ("placement", 0.45, 0.5, ""),
        ("prefill", 0.5, 1.55, "p"),
        ("transfer", 0.85, 1.65, "d"),
        ("inject", 1.65, 1.75, "d"),
        ("first token", 1.75, 1.9, "d"),
        ("answer", 1.9, 3.0, "d"),
    ]
    transfer = next(each for each in timeline(REMOTE, SITES, "edge") if each.stage == "transfer")
    assert transfer == Stage("transfer", transfer.begin_s, transfer.end_s, "d", "edge", "p")


def test_a_late_report_changes_nothing() -> None:
    """The first output comes after the injection, so a report that was overtaken by it is laid before it."""
    late = told(replace(REMOTE, reported_after_s=2.4))
    assert late[6:8] == [("inject", 1.8, 1.9, "d"), ("first token", 1.9, 1.9, "d")]


def test_an_older_decode_side_tells_less() -> None:
    """Without its moments the prefill ends when its engine says so; no transfer is drawn that nobody measured."""
    old = replace(REMOTE, report=TransferReport("t", ok=True, tokens=900, open_s=1.1))
    assert told(old)[4:] == [
        ("prefill", 0.5, 1.7, "p"),
        ("first token", 1.7, 1.9, "d"),
        ("answer", 1.9, 3.0, "d"),
    ]


def test_an_answer_that_is_not_streamed() -> None:
    """Its first output is its end, so the first token's time is nobody's to tell."""
    assert told(replace(REMOTE, is_stream=False))[-1] == ("whole answer", 1.75, 1.9, "d")


def test_a_lost_transfer_is_recomputed() -> None:
    """The prefill was given up when the decode side said so, and from then on that one computed."""
    report = TransferReport("t", ok=False, reason="checksum", first_s=0.3, last_s=0.6)
    lost = replace(REMOTE, outcome="recomputed", report=report, prefilled_after_s=None, reported_after_s=1.2)
    assert told(lost)[4:] == [
        ("prefill", 0.5, 1.2, "p"),
        ("transfer", 0.9, 1.2, "d"),
        ("recompute", 1.2, 1.9, "d"),
        ("answer", 1.9, 3.0, "d"),
    ]
    assert [each.note for each in timeline(lost, SITES, "edge")][4:7] == ["given up", "checksum", "checksum"]


def test_a_local_request() -> None:
    """The decode engine did it all: up to the first output that is its prefill."""
    tries = (Try("d", None, "decode", ANSWERED, 0.4, 0.5),)
    local = replace(REMOTE, placement="local", prefill=None, report=None, tries=tries, waited_s=0.0)
    assert told(local)[2:] == [("placement", 0.25, 0.5, ""), ("prefill", 0.5, 0.9, "d"), ("answer", 0.9, 3.0, "d")]


def test_tries_that_failed_are_on_it() -> None:
    """Each with the engine at which it ended, and why."""
    failed = Try("d", "p", "prefill", "unreachable", 0.2, 0.5)
    tries = (failed, Try("d", None, "decode", ANSWERED, 0.4, 0.7))
    retried = replace(REMOTE, outcome="recomputed", report=None, tries=tries)
    stages = timeline(retried, SITES, "edge")
    assert told(retried)[4:6] == [("failed try", 0.5, 0.7, "p"), ("prefill", 0.7, 1.1, "d")]
    assert stages[4].note == "prefill: unreachable"
    lost = replace(REMOTE, outcome="error", report=None, tries=(failed,))
    lost = replace(lost, total_s=0.7)
    assert [each.stage for each in timeline(lost, SITES, "edge")][4:] == ["failed try"]


def test_refused_and_running_requests_end_where_they_are() -> None:
    """A refusal ends with its placement, which says why; of a request under way only its beginning is known."""
    refused = replace(REMOTE, outcome="refused", tries=(), report=None, reasons=("brown-out", "no other site"))
    assert told(refused)[2:] == [("queue", 0.25, 0.45, ""), ("placement", 0.45, 0.5, "")]
    assert timeline(refused, SITES, "edge")[-1].note == "brown-out; no other site"
    running = replace(REMOTE, outcome="running", tries=(), report=None, total_s=None)
    assert told(running)[-1] == ("prefill", 0.5, None, "p")


def test_a_client_that_left_before_any_output() -> None:
    """No try ended, and yet something took the time."""
    left = replace(REMOTE, outcome="cancelled", tries=(), report=None, first_output_s=None, total_s=2.5)
    assert told(left)[-1] == ("prefill", 0.5, 2.5, "p")


TIMES = st.floats(0, 1e4)


@given(st.lists(TIMES, min_size=13, max_size=13), st.booleans(), st.booleans())
def test_no_stage_ends_before_it_begins(times: list[float], ok: bool, is_stream: bool) -> None:
    """Whatever clocks and reports say: stages are in order, and none is of negative length."""
    read, tokenised, waited, placed, began, seconds, reported, prefilled, first, last, used, total, ended = times
    report = TransferReport("t", ok=ok, prefilled_s=prefilled, first_s=min(first, last), last_s=last, used_s=used)
    decision = replace(
        REMOTE,
        read_after_s=min(read, tokenised),
        tokenised_after_s=tokenised,
        waited_s=waited,
        placed_after_s=max(placed, tokenised),
        tries=(Try("d", "p", "decode", ANSWERED, seconds, began),),
        reported_after_s=reported,
        prefilled_after_s=ended,
        total_s=max(total, began + seconds),
        report=report,
        is_stream=is_stream,
    )
    stages = timeline(decision, SITES, "edge")
    assert [each.begin_s for each in stages] == sorted(each.begin_s for each in stages)
    assert all(each.end_s is None or each.end_s >= each.begin_s for each in stages)
