"""One request's way as a timeline: what took how long, where, and what happened at the same time. Pure.

Times are seconds from the request's arrival, on the gateway's clock. What happened on other machines is laid onto it:

- The decode side counts its seconds from the moment it dials, which is shortly after its request arrived. Its report
  comes to the gateway as the last of them ends, so the dialing was ``used_s`` before that, but for a message within one
  site. No two clocks have to agree.
  A report may be overtaken by the first output, which nothing precedes that it tells: then that moment counts.
- When the remote prefill ended is told by the report, by the movers' estimate of their clocks' difference, or else by
  the answer of the engine that prefilled, half a round trip later.

Stages overlap where the work did: a transfer that begins before the prefill has ended is what the system is for.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from prfaas.observe.decisions import ANSWERED, Decision, Try
from prfaas.types import TransferReport

ROUNDED_S = 1e-3
"""Tries are told to a tenth of a millisecond; what is shorter than some of these may be nothing at all."""

StageName = Literal[
    "read",
    "tokenise",
    "queue",
    "placement",
    "failed try",
    "prefill",
    "transfer",
    "inject",
    "recompute",
    "first token",
    "answer",
    "whole answer",
]


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of the way.

    Attributes:
        stage: what was done. ``whole answer`` is prefill and decode of an answer that is not streamed, which nobody
            outside the engine can tell apart; ``inject`` is what is left to write into the engine's blocks after the
            last cache bytes came; ``recompute`` is the decode engine's own prefill after a transfer was lost.
        begin_s, end_s: seconds from the request's arrival; ``end_s`` is None while it lasts.
        engine: where, empty for the gateway itself.
        site: its site, empty when the engine is gone from the configuration.
        source: the engine whose cache it is, for ``transfer``; empty else.
        note: what went wrong, empty when nothing did.
    """

    stage: StageName
    begin_s: float
    end_s: float | None
    engine: str = ""
    site: str = ""
    source: str = ""
    note: str = ""


def timeline(decision: Decision, sites: Mapping[str, str], gateway_site: str) -> tuple[Stage, ...]:
    """The stages in the order in which they began. ``sites`` are those of the engines, by name.

    What is not known is left out: a request under way has the stages up to its placement, and one whose cache was never
    reported no transfer.
    """
    stages = [*_in_gateway(decision, gateway_site), *_on_engines(decision, sites)]
    return tuple(sorted(stages, key=lambda each: each.begin_s))


def _in_gateway(decision: Decision, site: str) -> Iterator[Stage]:
    read_s, tokenised_s, placed_s = decision.read_after_s, decision.tokenised_after_s, decision.placed_after_s
    if tokenised_s:
        yield Stage("read", 0.0, read_s, site=site)
        yield Stage("tokenise", read_s, tokenised_s, site=site)
    turn_s = min(placed_s, tokenised_s + decision.waited_s)
    if decision.waited_s:
        yield Stage("queue", tokenised_s, turn_s, site=site)
    why_refused = "; ".join(decision.reasons) if _is_refused(decision) else ""
    yield Stage("placement", turn_s, placed_s, site=site, note=why_refused)


def _on_engines(decision: Decision, sites: Mapping[str, str]) -> Iterator[Stage]:
    if _is_refused(decision):
        return
    last = decision.tries[-1] if decision.tries else None
    for each in decision.tries:
        if each.outcome != ANSWERED:
            yield _failed(each, sites)
    if last is None or last.outcome != ANSWERED:
        yield from _unanswered(decision, last, sites)
    elif last.prefill is None:
        yield from _prefilled_there(decision, last, sites)
    else:
        yield from _handed_over(decision, last, last.prefill, sites)


def _unanswered(decision: Decision, last: Try | None, sites: Mapping[str, str]) -> Iterator[Stage]:
    """What no try tells of: it is under way and told when it has ended, or it was ended before its first output."""
    begins_s = decision.placed_after_s if last is None else last.began_after_s + last.seconds
    is_running = decision.outcome == "running"
    if is_running or (decision.total_s or 0.0) - begins_s > ROUNDED_S:
        engine = decision.prefill or decision.decode
        note = "under way" if is_running else "ended before any output"
        yield Stage("prefill", begins_s, decision.total_s, engine, sites.get(engine, ""), note=note)


def _failed(lost: Try, sites: Mapping[str, str]) -> Stage:
    engine = lost.prefill if lost.stage == "prefill" and lost.prefill else lost.decode
    ends_s = lost.began_after_s + lost.seconds
    return Stage(
        "failed try", lost.began_after_s, ends_s, engine, sites.get(engine, ""), note=f"{lost.stage}: {lost.outcome}"
    )


def _prefilled_there(decision: Decision, last: Try, sites: Mapping[str, str]) -> Iterator[Stage]:
    """The decode engine did it all."""
    where = (last.decode, sites.get(last.decode, ""))
    output_s = last.began_after_s + last.seconds
    if not decision.is_stream:
        yield Stage("whole answer", last.began_after_s, output_s, *where)
        return
    yield Stage("prefill", last.began_after_s, output_s, *where)
    yield Stage("answer", output_s, decision.total_s, *where)


def _handed_over(decision: Decision, last: Try, source: str, sites: Mapping[str, str]) -> Iterator[Stage]:
    """Another engine prefilled, and its cache came over."""
    report, here = decision.report, (last.decode, sites.get(last.decode, ""))
    began_s, output_s = last.began_after_s, last.began_after_s + last.seconds
    dialed_s = _dialed_s(decision, report, began_s, output_s)
    is_lost = report is not None and not report.ok
    given_up_s = decision.reported_after_s if is_lost else None
    prefilled_s = _prefilled_s(decision, report, dialed_s)
    ready_s = given_up_s or prefilled_s or output_s
    note = "given up" if is_lost and prefilled_s is None else "" if prefilled_s else "nobody told when it ended"
    yield Stage("prefill", began_s, max(began_s, prefilled_s or ready_s), source, sites.get(source, ""), note=note)
    if report is not None and dialed_s is not None:
        if report.last_s > 0:
            arrived = dialed_s + report.first_s, dialed_s + report.last_s
            yield Stage("transfer", *arrived, *here, source, report.reason)
        if report.ok and report.used_s > 0:
            ready_s = dialed_s + max(report.last_s, report.used_s)
            yield Stage("inject", dialed_s + report.last_s, ready_s, *here)
    name: StageName = "recompute" if is_lost else "first token" if decision.is_stream else "whole answer"
    yield Stage(name, min(ready_s, output_s), output_s, *here, note=report.reason if is_lost and report else "")
    if decision.is_stream:
        yield Stage("answer", output_s, decision.total_s, *here)


def _dialed_s(decision: Decision, report: TransferReport | None, began_s: float, output_s: float) -> float | None:
    """When the decode side dialed; an older engine does not say, and a load that failed ended when it was reported."""
    if report is None or decision.reported_after_s is None:
        return None
    counted_s = report.used_s or max(report.open_s, report.last_s)
    told_s = min(decision.reported_after_s, output_s) if report.ok else decision.reported_after_s
    return max(began_s, told_s - counted_s)


def _prefilled_s(decision: Decision, report: TransferReport | None, dialed_s: float | None) -> float | None:
    if report is not None and report.prefilled_s > 0 and dialed_s is not None:
        return dialed_s + report.prefilled_s
    return decision.prefilled_after_s


def _is_refused(decision: Decision) -> bool:
    return decision.outcome == "refused"
