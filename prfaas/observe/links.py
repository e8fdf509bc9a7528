"""The links' figures as the gateway's metrics, as they were when the engines were last asked."""

from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from prfaas.observe.definitions import Definition
from prfaas.types import LINK_METRICS, LinkStatistics

_LABELS = ("engine", "direction", "peer")
DEFINITIONS = tuple(
    Definition(f"{each.name}_total" if each.is_counter else each.name, each.kind, each.text, _LABELS)
    for each in LINK_METRICS
)


class LinkCollector(Collector):
    """Shows each engine's latest figures; an engine that does not answer shows none."""

    def __init__(self) -> None:
        self._links: dict[str, tuple[LinkStatistics, ...]] = {}

    def note(self, engine: str, links: Iterable[LinkStatistics]) -> None:
        """The engine's mover has answered; with no links it has not."""
        self._links[engine] = tuple(links)

    def forget(self, engine: str) -> None:
        """The engine is no longer asked."""
        self._links.pop(engine, None)

    def of(self, engine: str) -> tuple[LinkStatistics, ...]:
        """What the engine last said."""
        return self._links.get(engine, ())

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """All figures, metric by metric."""
        for metric in LINK_METRICS:
            kind = CounterMetricFamily if metric.is_counter else GaugeMetricFamily
            family = kind(metric.name, metric.text, labels=_LABELS)
            for engine, links in self._links.items():
                for link in links:
                    direction = "send" if link.is_sending else "receive"
                    family.add_metric([engine, direction, link.peer], float(getattr(link, metric.field)))
            yield family
