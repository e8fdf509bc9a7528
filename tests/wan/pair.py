"""Two real movers at the ends of a WAN. The engines' side of them talks over Unix sockets, which no namespace hides."""

from collections.abc import Generator
from typing import Any

from prfaas.transport.messages import AskStatistics, Statistics
from prfaas.types import LinkStatistics, MoverStatistics
from tests.transport.movers import Pair, TinyEngine
from tests.wan.wan import ADDRESSES, Wan

LEASE_S = 10.0
"""The product's default: an outage of three seconds must fit."""


class WanPair(Pair):
    """A prefill engine in the cloud and a decode engine at the edge, with the wide-area link between them.

    Attributes:
        scenario: what happens to the link meanwhile; resumed at every poll.
    """

    scenario: Generator[None, None, None] | None = None

    @classmethod
    def at(cls, wan: Wan, **changes: Any) -> "WanPair":
        """Start both movers."""
        settings = {"lease_s": LEASE_S, **changes}
        with wan.inside("cloud"):
            prefill = TinyEngine("cloud", listen=f"{ADDRESSES['cloud']}:0", **settings)
        with wan.inside("edge"):
            decode = TinyEngine("edge", listen=f"{ADDRESSES['edge']}:0", **settings)
        return cls(prefill, decode)

    def poll(self) -> None:
        """Take in what the movers said, and let the scenario go on."""
        super().poll()
        if self.scenario is not None:
            next(self.scenario, None)

    def close(self) -> None:
        self.decode.close()
        self.prefill.close()

    def figures(self, engine: TinyEngine) -> MoverStatistics:
        """What the mover says of itself now."""
        asked = len(engine.worker_heard)
        engine.mover.channel.send(AskStatistics())
        answer = self.until(lambda: next((m for m in engine.worker_heard[asked:] if isinstance(m, Statistics)), None))
        assert answer is not None
        return answer.figures

    def link(self) -> LinkStatistics:
        """The link as the prefill side sees it."""
        (link,) = self.figures(self.prefill).links
        return link

    def is_settled(self) -> bool:
        prefill, decode = self.figures(self.prefill), self.figures(self.decode)
        return (
            len(self.prefill.free_send) == self.prefill.mover.staging.send_slots
            and (prefill.open_saves, prefill.lent_send_slots) == (0, 0)
            and (decode.open_loads, decode.lent_receive_slots) == (0, 0)
        )
