"""The gateway as in production, but for its controller, which has engines play the roles that a file says.

``python -m tests.engine.steered_gateway ORDERS --config FILE``; ORDERS is JSON, engine -> role, and may change.
"""

import json
import logging
import sys
from functools import partial
from pathlib import Path

from prfaas.config import Config, load_config
from prfaas.gateway import serve
from prfaas.gateway.app import create_app
from prfaas.planner.controller.advice import Advice, Conversion
from prfaas.planner.controller.controller import TwoScaleController
from prfaas.planner.controller.view import ControllerState
from prfaas.routing.snapshot import FleetSnapshot
from prfaas.transport.report import ReportClient


class Ordered:
    """A controller that keeps the configured threshold."""

    def __init__(self, orders: Path, config: Config, _: object) -> None:
        self._orders = orders
        self._threshold = config.policy.threshold_tokens

    def note_arrival(self, now_s: float, uncached_tokens: int) -> None:
        pass

    def note_answer(self, output_tokens: int) -> None:
        pass

    def step(self, now_s: float, fleet: FleetSnapshot) -> Advice:
        orders = json.loads(self._orders.read_text(encoding="utf-8"))
        prefilling = {engine.name: engine.can_prefill for engine in fleet.engines if not engine.is_draining}
        wanted = [
            Conversion(name, role)
            for name, role in orders.items()
            if name in prefilling and prefilling[name] != (role == "prefill")
        ]
        return Advice(self._threshold, tuple(wanted), ("as ordered",) if wanted else ())

    def state(self) -> ControllerState:
        return TwoScaleController(self._threshold).state()


def main() -> None:
    orders, path = Path(sys.argv[1]), sys.argv[3]
    logging.basicConfig(level=logging.INFO)
    serve.create_app = partial(create_app, make_controller=partial(Ordered, orders))  # type: ignore[attr-defined]  # where it looks for it
    serve.serve(load_config(path, {}), ReportClient())


if __name__ == "__main__":
    main()
