"""What all workers of a gateway have, whichever of them is asked: load, decisions, one request's way."""

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from prfaas.gateway.live import Live
from prfaas.gateway.other_workers import OtherWorkers
from prfaas.gateway.worker_share import Share, share_of, together
from prfaas.observe.decisions import Decision
from prfaas.observe.timeline import timeline

MAX_CURSOR = 4096
"""Of 64 workers it has 64 parts of some twenty characters, and some more while there are those that do not answer."""

Dated = tuple[float, msgspec.Raw]
"""When a request arrived, and its JSON."""


class Decisions(msgspec.Struct, frozen=True):
    """Decisions, the latest first, and what to give to hear of those that come later."""

    cursor: str
    decisions: list[Dated]


class AllWorkers:
    """Asks this worker and the others. Belongs to one event loop."""

    def __init__(
        self,
        live: Live,
        others: OtherWorkers,
        follow: Callable[[], None],
        arrival_requests_s: Callable[[], float | None],
    ) -> None:
        """``follow`` makes this worker follow what operators have said; the last is its controller's estimate."""
        self._live = live
        self._others = others
        self._follow = follow
        self._arrival_requests_s = arrival_requests_s
        others.answer("share", self._answer_share)
        others.answer("decisions", self._answer_decisions)
        others.answer("request", self._answer_request)

    async def share(self) -> Share:
        """The load of all."""
        heard = await self._others.ask("share", "", _SHARES.decode)
        return together(await self._share(), heard.told, heard.silent)

    async def decisions(self, after: str) -> Decisions:
        """Those that were put since the cursor ``after``."""
        heard = await self._others.ask("decisions", after[:MAX_CURSOR], _DECISIONS.decode)
        own = self._decisions(after)
        if not heard.told and not heard.silent:
            return own
        told = [each for answer in (own, *heard.told) for each in answer.decisions]
        cursors = [own.cursor, *(answer.cursor for answer in heard.told)]
        told.sort(key=lambda dated: dated[0], reverse=True)
        return Decisions(cursor_of(cursors, after if heard.silent else ""), told)

    async def request(self, request_id: str) -> tuple[msgspec.Raw | None, int]:
        """The decision of the latest such request and its timeline, None when nobody keeps it; and how many workers did
        not answer."""
        heard = await self._others.ask("request", request_id, _REQUESTS.decode)
        told = (self._request(request_id), *heard.told)
        found = max((each for each in told if each is not None), key=lambda dated: dated[0], default=None)
        return found and found[1], heard.silent

    async def _share(self) -> Share:
        self._follow()
        await asyncio.sleep(0)  # what was placed just now is counted at its engines in the turn before ours
        return share_of(self._live.now, self._arrival_requests_s())

    def _decisions(self, after: str) -> Decisions:
        ring = self._live.now.decisions
        return Decisions(ring.cursor, [_dated(each, each) for each in ring.after(after)])

    def _request(self, request_id: str) -> Dated | None:
        services = self._live.now
        decision = services.decisions.get(request_id)
        if decision is None:
            return None
        sites = {name: engine.site for name, engine in services.config.engines.items()}
        way = timeline(decision, sites, services.config.gateway.site)
        return _dated(decision, {"decision": decision, "timeline": way})

    async def _answer_share(self, _: str) -> bytes:
        return msgspec.msgpack.encode(await self._share())

    async def _answer_decisions(self, after: str) -> bytes:
        return msgspec.json.encode(self._decisions(after))

    async def _answer_request(self, request_id: str) -> bytes:
        return msgspec.json.encode(self._request(request_id))


def cursor_of(cursors: Sequence[str], before: str) -> str:
    """One cursor of those of several workers. From ``before``, that of the question, the parts of workers that have
    said nothing this time are kept."""
    epochs = {each.partition("-")[0] for each in cursors}
    kept = [part for part in before.split(",") if part and part.partition("-")[0] not in epochs]
    return ",".join([*cursors, *kept])[:MAX_CURSOR]


def _dated(decision: Decision, told: object) -> Dated:
    """A figure that is not finite would be no JSON: msgspec writes null."""
    return decision.arrived_unix_s, msgspec.Raw(msgspec.json.encode(told))


_SHARES = msgspec.msgpack.Decoder(Share)
_DECISIONS = msgspec.json.Decoder(Decisions)
_REQUESTS = msgspec.json.Decoder(Dated | None)
