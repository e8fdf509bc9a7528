"""What every engine's mover does, as it last told the gateway."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from prfaas.observe.definitions import Definition
from prfaas.types import MOVER_METRICS, MoverStatistics

DEFINITIONS = tuple(
    Definition(f"{each.name}_total" if each.is_counter else each.name, each.kind, each.text, ("engine",))
    for each in MOVER_METRICS
)


class MoverCollector(Collector):
    """Shows each mover's latest figures; one that does not answer shows none."""

    def __init__(self) -> None:
        self._movers: dict[str, MoverStatistics] = {}

    def note(self, engine: str, figures: MoverStatistics | None) -> None:
        """The engine's mover has answered, or has not."""
        if figures is None:
            self._movers.pop(engine, None)
        else:
            self._movers[engine] = figures

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """All figures, metric by metric."""
        for metric in MOVER_METRICS:
            kind = CounterMetricFamily if metric.is_counter else GaugeMetricFamily
            family = kind(metric.name, metric.text, labels=["engine"])
            for engine, figures in self._movers.items():
                family.add_metric([engine], float(getattr(figures, metric.field)))
            yield family
