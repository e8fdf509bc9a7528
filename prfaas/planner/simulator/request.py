"""One request on its way through the simulated fleet."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from prfaas.routing.placement import Placement

if TYPE_CHECKING:
    from prfaas.planner.simulator.engine import Engine
    from prfaas.planner.simulator.link import Transfer


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """A request before anything is decided.

    Attributes:
        at_s: when it comes; arrivals are in this order.
        prompt_tokens: length of its prompt, cached or not.
        output_tokens: how many it will be answered with, 1 or more.
        block_ids: of its prompt's blocks, as in a trace; empty when nothing is ever cached of it.
    """

    at_s: float
    prompt_tokens: int
    output_tokens: int
    block_ids: Sequence[int] = ()


class Request:
    """What an arrival becomes. Its engines and its link write the parts that they need.

    Attributes:
        placement: what the router said.
        prefill, decode: the engines of the present try; the same one when it does both.
        is_handed_over: another engine prefills than decodes.
        held_tokens: of the prompt, cached at ``decode`` when the try began.
        uncached_tokens: what ``prefill`` computes.
        waiting_tokens: of those, what ``prefill`` still counts as waiting: all of them or none.
        awaiting: 1 while ``decode`` counts it as one without its cache, else 0.
        work_s: seconds of that prefill on an engine that does nothing else.
        transfer: its cache on a link, None when none crosses.
        tries: so many have begun; an event of an earlier one is stale.
        first_token_s: when the first token came, below 0 before that.
    """

    __slots__ = (
        "arrival",
        "awaiting",
        "decode",
        "first_token_s",
        "held_tokens",
        "is_handed_over",
        "placement",
        "prefill",
        "transfer",
        "tries",
        "uncached_tokens",
        "waiting_tokens",
        "work_s",
    )

    def __init__(self, arrival: Arrival, placement: Placement) -> None:
        self.arrival = arrival
        self.placement = placement
        self.prefill: Engine
        self.decode: Engine
        self.is_handed_over = False
        self.held_tokens = self.uncached_tokens = self.waiting_tokens = self.awaiting = self.tries = 0
        self.work_s = 0.0
        self.transfer: Transfer | None = None
        self.first_token_s = -1.0
