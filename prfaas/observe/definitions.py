"""How metrics are defined: made in one registry, and remembered for the table in docs/metrics.md."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.registry import Collector

Kind = Literal["counter", "gauge", "histogram"]
Mode = Literal["mostrecent", "livesum", "liveall"]
"""How the values of several workers become one: the last that any of them said, the sum of those that run, or each by
itself."""


@dataclass(frozen=True, slots=True)
class Definition:
    """One metric as its readers see it.

    Attributes:
        name: with its unit, and ``_total`` of a counter.
        text: what it means.
        labels: names; ``catalogue.LABELS`` says where their values come from.
    """

    name: str
    kind: Kind
    text: str
    labels: tuple[str, ...] = ()


class Definitions:
    """Makes metrics in a registry.

    Attributes:
        registry: where they are.
        all: what has been made, in order.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.all: list[Definition] = []

    def counter(self, name: str, text: str, labels: Iterable[str] = ()) -> Counter:
        made = self._note(name, "counter", text, labels)
        return Counter(made.name, made.text, made.labels, registry=self.registry)

    def gauge(self, name: str, text: str, labels: Iterable[str] = (), mode: Mode = "mostrecent") -> Gauge:
        made = self._note(name, "gauge", text, labels)
        return Gauge(made.name, made.text, made.labels, registry=self.registry, multiprocess_mode=mode)

    def histogram(self, name: str, text: str, buckets: Sequence[float], labels: Iterable[str] = ()) -> Histogram:
        made = self._note(name, "histogram", text, labels)
        return Histogram(made.name, made.text, made.labels, registry=self.registry, buckets=buckets)

    def collector(self, collector: Collector, definitions: Iterable[Definition]) -> None:
        """One that makes its metrics by itself, when it is asked."""
        self.registry.register(collector)
        self.all.extend(definitions)

    def _note(self, name: str, kind: Kind, text: str, labels: Iterable[str]) -> Definition:
        made = Definition(name, kind, text, tuple(labels))
        self.all.append(made)
        return made
