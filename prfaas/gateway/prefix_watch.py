"""Following every engine's prefix cache."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

from prfaas.config import Config, TlsConfig
from prfaas.errors import TransferFailed
from prfaas.fleet.prefix_index import PrefixIndex
from prfaas.observe.feeds import FeedCollector
from prfaas.prefix import PrefixUpdate

Follow = Callable[[str], AsyncIterator[PrefixUpdate]]
"""The feed of the engine whose cache transfers are at "host:port". Raises TransferFailed when it ends."""
RETRY_S = 2.0
"""Between attempts; whether the engine is well is the prober's to say."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Feed:
    """Where one engine's feed is, and everything by which the engine is another one when it changes.

    Attributes:
        target: "host:port" of its cache transfers.
        tls: of its site, by which its mover is known.
    """

    target: str
    site: str = ""
    url: str = ""
    tls: TlsConfig | str | None = None


def feeds_of(config: Config) -> dict[str, Feed]:
    """Those of all engines."""
    return {
        name: Feed(engine.kv, engine.site, engine.url, config.sites[engine.site].tls)
        for name, engine in config.engines.items()
    }


class PrefixWatch:
    """Keeps the index up to date, with one task for each engine; owns them until ``aclose``. Belongs to one loop."""

    def __init__(self, index: PrefixIndex, counts: FeedCollector | None = None) -> None:
        """``counts`` shows what goes wrong beside the engines, if anybody wants to see it."""
        self._index = index
        self._counts = counts or FeedCollector()
        self._told: dict[str, str] = {}
        self._following: dict[str, tuple[Feed, asyncio.Task[None]]] = {}

    async def keep(self, follow: Follow, feeds: Mapping[str, Feed]) -> None:
        """Follow these from now on. Those that are followed already go on as they are: beginning one again would leave
        nothing known of its engine until everything has been told anew."""
        ended = [name for name, (feed, _) in self._following.items() if feeds.get(name) != feed]
        await self._end(ended)
        for name, feed in feeds.items():
            if name not in self._following:
                self._following[name] = feed, asyncio.create_task(self._follow_one(follow, name, feed.target))

    async def aclose(self) -> None:
        """End all of them."""
        await self._end(list(self._following))

    async def _end(self, names: list[str]) -> None:
        tasks = [self._following.pop(name)[1] for name in names]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for name in names:
            self._index.forget(name)  # what its last updates said, after it was taken out of the configuration
            self._counts.forget(name)
            self._told.pop(name, None)

    async def _follow_one(self, follow: Follow, engine: str, target: str) -> None:
        while True:
            try:
                async for update in follow(target):
                    self._index.apply(engine, update)
                    if update.counts is not None:
                        self._counts.note(engine, update.counts)
                    self._tell(engine, "")
            except TransferFailed as error:
                self._tell(engine, str(error))
            except Exception:
                # A bug of ours. Ending here would leave the engine for ever as it was last seen.
                log.exception("following the prefix cache of engine %s failed", engine)
            self._index.forget(engine)
            await asyncio.sleep(RETRY_S)

    def _tell(self, engine: str, problem: str) -> None:
        """Log what changes."""
        if self._told.get(engine) != problem:
            self._told[engine] = problem
            if problem:
                log.warning("what engine %s has cached is only guessed: %s", engine, problem)
            else:
                log.info("what engine %s has cached is known", engine)
