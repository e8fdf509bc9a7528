"""The links between sites, as placement sees them: all pairs of engines together."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from prfaas.observe.definitions import Definition

_LABELS = ("source", "target")


def _shown(name: str, text: str) -> Any:
    return field(metadata={"name": f"prfaas_site_link_{name}", "text": text})


@dataclass(frozen=True, slots=True)
class SiteLinkFigures:
    """One link at one moment; ``budget_left_bytes`` is None where there is no budget."""

    source: str
    target: str
    crossed_bytes: int = _shown("bytes_total", "Cache bytes that have crossed the link, those sent again included.")
    bandwidth_bytes_s: float = _shown("bandwidth_bytes_per_second", "What the configuration says that it carries.")
    goodput_bytes_s: float = _shown("goodput_bytes_per_second", "What it carries, over the time in which it is used.")
    utilisation: float = _shown("utilisation_ratio", "Share of the bandwidth in use, over all time.")
    queued_bytes: float = _shown("queued_bytes", "Cache bytes on their way, or waiting for it.")
    rtt_s: float = _shown("rtt_seconds", "The longest round trip of its pairs of engines now, queues included.")
    is_congested: bool = _shown("congested", "1 when queues on the path grow, or it drops too much.")
    is_scarce: bool = _shown("scarce", "1 while placement spares it: the higher threshold holds.")
    is_breaker_open: bool = _shown("breaker_open", "1 while its circuit breaker is open.")
    budget_left_bytes: float | None = _shown("budget_left_bytes", "What is left of the day's egress budget, if any.")


_SHOWN = tuple((each.name, each.metadata["name"], each.metadata["text"]) for each in fields(SiteLinkFigures)[2:])
DEFINITIONS = tuple(
    Definition(name, "counter" if name.endswith("_total") else "gauge", text, _LABELS) for _, name, text in _SHOWN
)


class SiteLinkCollector(Collector):
    """Shows the latest figures of every configured link."""

    def __init__(self) -> None:
        self._links: tuple[SiteLinkFigures, ...] = ()

    def note(self, links: Iterable[SiteLinkFigures]) -> None:
        """All links there are."""
        self._links = tuple(links)

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """All figures, metric by metric."""
        for attribute, name, text in _SHOWN:
            kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            family = kind(name, text, labels=_LABELS)
            for link in self._links:
                if (value := getattr(link, attribute)) is not None:
                    family.add_metric([link.source, link.target], float(value))
            yield family
