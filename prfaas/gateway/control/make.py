"""The controller of a configuration."""

from typing import Any

from prfaas.config import Config
from prfaas.planner.controller.advice import Advice, Controller


class Interim:
    def note_arrival(self, now_s: float, uncached_tokens: int) -> None: ...
    def note_answer(self, output_tokens: int) -> None: ...
    def step(self, now_s: float, fleet: Any) -> Advice:
        return Advice(None)
    def state(self) -> Any:
        return None


def controller_of(config: Config) -> Controller:
    """With the profiles that the configuration names. Raises ConfigError."""
    return Interim()
