"""The links as placement sees them, made of what the engines' movers tell of theirs.

Both ends of a transfer tell of it; the sending end knows more, so its word is taken where there is one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from prfaas.config import Config, LinkConfig
from prfaas.fleet.egress import EgressWindow
from prfaas.gateway.policy import scarcity_of
from prfaas.routing.snapshot import LinkState
from prfaas.types import LinkStatistics

Pair = tuple[str, str]
"""The engine that sends caches and the one that receives them."""
Figures = Mapping[str, Sequence[LinkStatistics]]
"""Engine -> what it last told of its links; an engine that does not answer tells nothing."""


@dataclass
class _Link:
    config: LinkConfig
    state: LinkState
    window: EgressWindow = field(default_factory=EgressWindow)
    crossed_bytes: int = 0


class LinkStates:
    """Keeps each link's state between two rounds of questions. Belongs to one event loop."""

    def __init__(self, config: Config) -> None:
        self._sites = {name: engine.site for name, engine in config.engines.items()}
        self._scarcity = scarcity_of(config.policy)
        self._links = {(link.source, link.target): _Link(link, _state(link, ())) for link in config.links}
        self._known: set[str] = set()
        self._counted: dict[Pair, tuple[bool, int]] = {}
        self._publish()

    def following(self, config: Config) -> "LinkStates":
        """Those of another configuration; links that stay keep their scarcity and what has crossed them."""
        links = LinkStates(config)
        links._known, links._counted = self._known, self._counted
        for ends, link in links._links.items():
            if former := self._links.get(ends):
                link.window, link.crossed_bytes = former.window, former.crossed_bytes
                bandwidth, left = link.state.bandwidth_bytes_s, _left(link.config, former)
                link.state = replace(former.state, bandwidth_bytes_s=bandwidth, budget_left_bytes=left)
        links._publish()
        return links

    def states(self) -> tuple[LinkState, ...]:
        """All links, in the order of the configuration."""
        return self._states

    def crossed_bytes(self) -> tuple[int, ...]:
        """What has crossed each of them so far, in the same order."""
        return tuple(link.crossed_bytes for link in self._links.values())

    def step(self, figures: Figures, now_s: float) -> None:
        """Take in one round of answers. Budgets count from the first answer of each engine on."""
        pairs = self._by_pair(figures)
        crossed = {pair: self._crossed(pair, told) for pair, told in pairs.items()}
        self._known.update(name for name, told in figures.items() if told)
        for ends, link in self._links.items():
            there = [pair for pair in pairs if (self._sites[pair[0]], self._sites[pair[1]]) == ends]
            self._step_link(link, [pairs[pair] for pair in there], sum(crossed[pair] for pair in there), now_s)
        self._publish()

    def _publish(self) -> None:
        self._states = tuple(link.state for link in self._links.values())

    def _step_link(self, link: _Link, told: list[LinkStatistics], crossed_bytes: int, now_s: float) -> None:
        state = _state(link.config, told)
        is_scarce = self._scarcity.step(link.state.is_scarce, state.utilisation, state.is_congested)
        budget_gb, left = link.config.egress_budget_gb_per_day, None
        link.crossed_bytes += crossed_bytes
        if budget_gb is not None:
            link.window = link.window.add(crossed_bytes, now_s)
            left = budget_gb * 1e9 - link.window.used_bytes(now_s)
        link.state = replace(state, is_scarce=is_scarce, budget_left_bytes=left)

    def _by_pair(self, figures: Figures) -> dict[Pair, LinkStatistics]:
        """One word on each pair of configured engines."""
        pairs: dict[Pair, LinkStatistics] = {}
        for engine, links in figures.items():
            for told in links:
                pair = (engine, told.peer) if told.is_sending else (told.peer, engine)
                if pair[0] in self._sites and pair[1] in self._sites and (told.is_sending or pair not in pairs):
                    pairs[pair] = told
        return pairs

    def _crossed(self, pair: Pair, told: LinkStatistics) -> int:
        """Bytes since the last round. A counter that has shrunk began anew with its engine. Once the sending end has
        told of a pair its word alone counts: a mixture would count bytes twice."""
        total = told.delivered_bytes + told.resent_bytes
        observer = pair[0] if told.is_sending else pair[1]
        was_sending, before = self._counted.get(pair, (told.is_sending, 0 if observer in self._known else total))
        if was_sending and not told.is_sending:
            return 0
        self._counted[pair] = (told.is_sending, total)
        if was_sending != told.is_sending:
            return 0
        return total - before if total >= before else total


def _left(link: LinkConfig, former: _Link) -> float | None:
    """What is left of a budget after what has crossed already; until the next round tells, for one that is new."""
    budget_gb, before_gb = link.egress_budget_gb_per_day, former.config.egress_budget_gb_per_day
    if budget_gb is None:
        return None
    left = former.state.budget_left_bytes
    used = 0.0 if before_gb is None or left is None else before_gb * 1e9 - left
    return budget_gb * 1e9 - used


def _state(link: LinkConfig, told: Iterable[LinkStatistics]) -> LinkState:
    """All pairs of engines on the link together. Pairs at work share it, so their goodputs add up; when none is at work
    the best that one reached stands for the link."""
    figures = tuple(told)
    bandwidth = link.bandwidth_gbps * 1e9 / 8
    working = [each.goodput_bytes_s for each in figures if each.in_flight_bytes or each.queued_bytes]
    return LinkState(
        source=link.source,
        target=link.target,
        bandwidth_bytes_s=bandwidth,
        goodput_bytes_s=sum(working) or max((each.goodput_bytes_s for each in figures), default=0.0),
        queued_bytes=sum(each.queued_bytes + each.in_flight_bytes for each in figures),
        utilisation=min(1.0, sum(each.utilisation * each.bandwidth_bytes_s for each in figures) / bandwidth),
        rtt_s=max((each.rtt_s for each in figures), default=0.0),
        is_congested=any(each.is_congested for each in figures),
    )
