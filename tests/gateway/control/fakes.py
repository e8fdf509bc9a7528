"""A controller that says what a test wants, and the services around it."""

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

from prfaas.clock import ManualClock
from prfaas.config import Config, parse_config
from prfaas.fleet.fleet import Fleet
from prfaas.fleet.prefix_index import PrefixIndex
from prfaas.gateway.control.loop import ControlLoop
from prfaas.gateway.fleet_view import FleetView
from prfaas.gateway.live import ConfigSource, Live
from prfaas.gateway.prefix_hits import PrefixHits
from prfaas.gateway.prompt.parity import CheckedTokenizer
from prfaas.gateway.services import GatewayServices
from prfaas.gateway.upstream import Upstream
from prfaas.planner.controller.advice import Advice
from prfaas.planner.controller.controller import TwoScaleController
from prfaas.planner.controller.view import ControllerState
from prfaas.routing.snapshot import FleetSnapshot
from tests.gateway.fakes import FakeReports, WordTokenizer

STATE = TwoScaleController(None).state()
"""Of one that has seen nothing."""


@dataclass
class FakeController:
    """Says ``advice``, or the next of ``script`` while there is one; an error in it is raised."""

    advice: Advice = field(default_factory=lambda: Advice(5))
    script: deque[Advice | Exception] = field(default_factory=deque)
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    fleets: list[FleetSnapshot] = field(default_factory=list)

    def note_arrival(self, now_s: float, uncached_tokens: int) -> None:
        self.arrivals.append((now_s, uncached_tokens))

    def note_answer(self, output_tokens: int) -> None:
        self.answers.append(output_tokens)

    def step(self, now_s: float, fleet: FleetSnapshot) -> Advice:
        self.fleets.append(fleet)
        if self.script:
            said = self.script.popleft()
            if isinstance(said, Exception):
                raise said
            self.advice = said
        return self.advice

    def state(self) -> ControllerState:
        return replace(STATE, threshold_tokens=self.advice.threshold_tokens)


def split_tree(mode: str = "on", **controller: object) -> dict[str, Any]:
    """Three convertible engines here, two of which decode, and one elsewhere; t is 5."""
    roles = {"edge-0": "decode", "edge-1": "decode", "edge-2": "prefill", "cloud-0": "prefill"}
    return {
        "model": {"name": "tiny", "path": "/nowhere", "max_model_len": 100},
        "gateway": {"site": "edge", "request_timeout_s": 60, "shutdown_grace_s": 1},
        "sites": {site: {"tls": "off"} for site in ("edge", "cloud")},
        "engines": {
            name: {
                "site": name.split("-")[0],
                "url": f"http://127.0.0.1:{8101 + at}",
                "kv": f"127.0.0.1:{7101 + 10 * at}",
                "roles": [role],
                "convertible": name.startswith("edge"),
            }
            for at, (name, role) in enumerate(roles.items())
        },
        "links": [{"from": "cloud", "to": "edge"}],
        "policy": {"threshold_tokens": 5, "remote_timeout_s": 30, "hand_over_min_tokens": 1},
        "controller": {"mode": mode, "interval_s": 0.005, "plan_interval_s": 1, "min_prefill_engines": 0, **controller},
    }


@dataclass
class Controlled:
    """A loop around a fake controller, with time by hand and without sockets. ``tree`` is the configuration's file."""

    tree: dict[str, Any]
    controller: FakeController
    made: list[Config]
    clock: ManualClock
    live: Live
    loop: ControlLoop

    @property
    def services(self) -> GatewayServices:
        return self.live.now

    def look(self, advice: Advice | Exception | None = None, after_s: float = 1) -> None:
        """One look of the controller, which says this."""
        if advice is not None:
            self.controller.script.append(advice)
        self.clock.advance(after_s)
        self.loop.step()

    def changes(self) -> list[tuple[str, str]]:
        """Kind and words of all, oldest first."""
        return [(each["kind"], each["what"]) for each in reversed(self.loop.overview()["changes"])]

    def value(self, name: str, **labels: str) -> float | None:
        return self.services.metrics.registry.get_sample_value(f"prfaas_controller_{name}", labels)


def controlled(tree: dict[str, Any] | None = None) -> Controlled:
    """All engines are well."""
    tree = tree or split_tree()
    config, clock, controller = parse_config(tree), ManualClock(100), FakeController()
    fleet, made = Fleet(config.engines, clock), list[Config]()
    for name in config.engines:
        fleet.note(name, "")
    services = GatewayServices(
        config=config,
        tokenizer=CheckedTokenizer(WordTokenizer(100)),
        upstream=Upstream({name: engine.url for name, engine in config.engines.items()}),
        reports=FakeReports(),
        clock=clock,
        fleet=fleet,
        view=FleetView(config, fleet),
        prefixes=PrefixHits(PrefixIndex(), config.engines),
    )
    live = Live(services, ConfigSource(lambda: parse_config(tree), lambda _: FakeReports()))

    def make(config: Config, _: object) -> FakeController:
        made.append(config)
        return controller

    return Controlled(tree, controller, made, clock, live, ControlLoop(live, make, unix_s=lambda: 1_000.0))
