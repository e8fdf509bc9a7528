"""Where a request may go next when a try has failed. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

from prfaas.fleet.failures import Fault

MAX_TRIES = 4
"""The placement, one more engine elsewhere, the decode engine alone, one more decode engine. A request that so many
could not serve is served by no fifth; each try costs a prefill that others wait behind."""
MAX_REMOTE_TRIES = 2
"""Of those: the time that a second one loses is already missing for doing it here."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to serve a request: the engine that answers, and another one that prefills, if one does."""

    decode: str
    prefill: str | None


@dataclass(frozen=True, slots=True)
class Lost:
    """What a request has learnt from its failed tries.

    Attributes:
        decode: engines that could not answer.
        prefill: engines that could not prefill.
        remote_tries: how often another engine was to prefill.
        is_remote_over: time went by without a cache, so that there is none left for another.
    """

    decode: frozenset[str] = frozenset()
    prefill: frozenset[str] = frozenset()
    remote_tries: int = 0
    is_remote_over: bool = False

    def after(self, way: Way, stage: str, fault: Fault) -> "Lost":
        """What is known after one more try; a broken way that was not gone costs no remote try."""
        is_tried = way.prefill is not None and fault is not Fault.OPEN
        is_prefill_lost = way.prefill is not None and stage != "decode"
        return Lost(
            decode=self.decode | {way.decode} if stage == "decode" else self.decode,
            prefill=self.prefill | {way.prefill or ""} if is_prefill_lost else self.prefill,
            remote_tries=self.remote_tries + is_tried,
            is_remote_over=self.is_remote_over or fault is Fault.STALLED,
        )


def next_way(ways: tuple[Way, ...], lost: Lost, is_closed: Callable[[str], bool] = lambda _: False) -> Way | None:
    """The first way that nothing is known against, None when there is none. Engines that are closed to new requests,
    which may have come about since the placement, are in none."""
    may_be_remote = not lost.is_remote_over and lost.remote_tries < MAX_REMOTE_TRIES
    for way in ways:
        is_open = way.prefill is None or (may_be_remote and way.prefill not in lost.prefill)
        if not is_open or way.decode in lost.decode or is_closed(way.decode):
            continue
        if way.prefill is None or not is_closed(way.prefill):
            return way
    return None
