"""What the controller says, wants and does."""

import math
from collections.abc import Iterable

from prometheus_client import Gauge

from prfaas.observe.definitions import Definitions, Mode


class ControlMetrics:
    """Metrics of one controller. Tokens, and requests a second; gauges are as of its last look."""

    def __init__(self, definitions: Definitions) -> None:
        def gauge(name: str, text: str, labels: Iterable[str] = (), mode: Mode = "mostrecent") -> Gauge:
            return definitions.gauge(f"prfaas_controller_{name}", text, labels, mode)

        self.threshold = gauge("threshold_tokens", "The threshold in force.")
        self.wanted = gauge(
            "wanted_threshold_tokens", "The threshold that the controller would have; NaN before it says."
        )
        self._mode = gauge("mode", "1 for the mode that it is in.", ["mode"])
        self.wanted.set(math.nan)
        # Each worker of a gateway counts its own requests.
        self.arrival_rate = gauge(
            "arrival_requests_per_second", "What arrives, as estimated; NaN in mode off.", mode="livesum"
        )
        self.capacity = gauge(
            "capacity_requests_per_second", "What the fleet serves as it is divided; NaN before a plan."
        )
        self.capacity.set(math.nan)
        self._changes = definitions.counter(
            "prfaas_controller_changes_total",
            "Changes that it made (on) or would have made (shadow), none of operators.",
            ["kind", "mode"],
        )
        self._conversions = definitions.counter(
            "prfaas_controller_conversions_total",
            "Conversions of engines that it began and that ended.",
            ["role", "outcome"],
        )
        self._errors = definitions.counter("prfaas_controller_errors_total", "Looks that failed: alarm on it.")

    def set_mode(self, mode: str, of: Iterable[str]) -> None:
        """The mode, one ``of`` some words."""
        for word in of:
            self._mode.labels(word).set(int(word == mode))

    def count_change(self, kind: str, mode: str) -> None:
        self._changes.labels(kind, mode).inc()

    def count_conversion(self, role: str, outcome: str) -> None:
        """``role`` is what the engine was to do."""
        self._conversions.labels(role, outcome).inc()

    def count_error(self) -> None:
        self._errors.inc()
