"""The links between sites, as placement sees them: all pairs of engines together."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from prfaas.observe.definitions import Definition, Definitions
from prfaas.observe.lead import Lead

_LABELS = ("source", "target")


def _shown(name: str, text: str) -> Any:
    return field(metadata={"name": f"prfaas_site_link_{name}", "text": text})


@dataclass(frozen=True, slots=True)
class SiteLinkFigures:
    """One link at one moment; ``budget_left_bytes`` is None where there is no budget. ``crossed_bytes`` are all so far,
    those sent again included."""

    source: str
    target: str
    crossed_bytes: int
    bandwidth_bytes_s: float = _shown("bandwidth_bytes_per_second", "What the configuration says that it carries.")
    goodput_bytes_s: float = _shown("goodput_bytes_per_second", "What it carries, over the time in which it is used.")
    utilisation: float = _shown("utilisation_ratio", "Share of the bandwidth in use, over all time.")
    queued_bytes: float = _shown("queued_bytes", "Cache bytes on their way, or waiting for it.")
    rtt_s: float = _shown("rtt_seconds", "The longest round trip of its pairs of engines now, queues included.")
    is_congested: bool = _shown("congested", "1 when queues on the path grow, or it drops too much.")
    is_scarce: bool = _shown("scarce", "1 while placement spares it: the higher threshold holds.")
    is_breaker_open: bool = _shown("breaker_open", "1 while its circuit breaker is open.")
    budget_left_bytes: float | None = _shown("budget_left_bytes", "What is left of the day's egress budget, if any.")


_SHOWN = tuple((each.name, each.metadata["name"], each.metadata["text"]) for each in fields(SiteLinkFigures)[3:])
DEFINITIONS = tuple(Definition(name, "gauge", text, _LABELS) for _, name, text in _SHOWN)


class SiteLinkCollector(Collector):
    """Shows the latest figures of every configured link, and counts what crosses it.

    Every worker sees all that crosses, from its own start on. One of them counts it: sums that differ would look like
    a counter that goes back, whenever another worker is scraped. When that one ends another goes on from what it has
    seen itself: what crosses between the last looks of both counts twice or not at all, as often one as the other.
    """

    def __init__(self, definitions: Definitions, lead: Lead) -> None:
        self._links: tuple[SiteLinkFigures, ...] = ()
        self._crossed: dict[tuple[str, str], int] = {}
        self._lead = lead
        self._bytes = definitions.counter(
            "prfaas_site_link_bytes_total",
            "Cache bytes that have crossed the link, those sent again included.",
            _LABELS,
        )

    def note(self, links: Iterable[SiteLinkFigures]) -> None:
        """All links there are."""
        self._links = tuple(links)
        is_ours = self._lead.is_ours()
        for link in self._links:
            ends = link.source, link.target
            before, self._crossed[ends] = self._crossed.get(ends, 0), link.crossed_bytes
            if is_ours:
                self._bytes.labels(*ends).inc(max(0, link.crossed_bytes - before))  # a link that came back begins anew

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """All figures, metric by metric."""
        for attribute, name, text in _SHOWN:
            family = GaugeMetricFamily(name, text, labels=_LABELS)
            for link in self._links:
                if (value := getattr(link, attribute)) is not None:
                    family.add_metric([link.source, link.target], float(value))
            yield family
