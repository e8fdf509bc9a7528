"""What goes wrong on the way of the engines' cache events, as their movers last told it."""

from collections.abc import Iterator
from dataclasses import fields

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from prfaas.observe.definitions import Definition
from prfaas.prefix import FeedCounts

_TEXTS = {
    "gaps": "Times that a batch of cache events was missing; most are healed by a replay.",
    "garbage": "Messages with cache events that could not be read.",
    "losses": "Times that events were gone for good, so that the engine's prefix cache is known in part only.",
}

DEFINITIONS = tuple(
    Definition(f"prfaas_prefix_feed_{name}_total", "counter", text, ("engine",)) for name, text in _TEXTS.items()
)


class FeedCollector(Collector):
    """Shows the latest counts of each engine that has told some; they begin anew with the engine."""

    def __init__(self) -> None:
        self._counts: dict[str, FeedCounts] = {}

    def note(self, engine: str, counts: FeedCounts) -> None:
        """The engine's mover has told them."""
        self._counts[engine] = counts

    def forget(self, engine: str) -> None:
        """The engine is no longer followed."""
        self._counts.pop(engine, None)

    def collect(self) -> Iterator[CounterMetricFamily]:
        """``prfaas_prefix_feed_gaps_total{engine}`` and the others."""
        for field in fields(FeedCounts):
            family = CounterMetricFamily(f"prfaas_prefix_feed_{field.name}", _TEXTS[field.name], labels=["engine"])
            for engine, counts in self._counts.items():
                family.add_metric([engine], getattr(counts, field.name))
            yield family
