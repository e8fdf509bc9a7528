"""What goes down and comes up: when it happens, and when it is known."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from prfaas.errors import ConfigError
from prfaas.planner.simulator.engine import Engine
from prfaas.planner.simulator.link import Link
from prfaas.planner.simulator.request import Request
from prfaas.planner.simulator.spec import Change

if TYPE_CHECKING:
    from prfaas.planner.simulator.run import Simulation


class Failures:
    """Carries out a scenario's changes. What fails stops at once; it is known ``detection_s`` later, and then every
    request there goes on elsewhere.

    Attributes:
        is_any_known: something is, or was, known to be down; until then there is no need to ask.
    """

    def __init__(self, simulation: "Simulation") -> None:
        self._simulation = simulation
        self.is_any_known = False

    def schedule(self, changes: Iterable[Change]) -> None:
        """Check the changes and wait for them. Raises ConfigError for a target that is not there."""
        for change in changes:
            if change.at_s < 0 or change.value < 0:
                raise ConfigError(f"{change.kind} of {change.target}: at_s and value have to be 0 or more")
            self._targets(change)
            self._simulation.events.at(change.at_s, self._happen, change)

    def is_well(self, engine: Engine) -> bool:
        """As far as is known, the link to it included."""
        link = self._simulation.links.get(engine.site)
        return engine.is_healthy and not (link is not None and link.is_broken)

    def _targets(self, change: Change) -> list[Engine]:
        """The engines that it is about; of a link there are none."""
        if change.kind in ("bandwidth", "link_down", "link_up"):
            if change.target not in self._simulation.links:
                raise ConfigError(f"{change.kind}: {change.target}: no link comes from there")
            return []
        is_site = change.kind in ("site_down", "site_up")
        found = [each for each in self._simulation.engines if (each.site if is_site else each.name) == change.target]
        if not found:
            raise ConfigError(f"{change.kind}: {change.target}: no such {'site' if is_site else 'engine'}")
        return found

    def _happen(self, change: Change) -> None:
        simulation, engines = self._simulation, self._targets(change)
        is_down = change.kind.endswith("_down")
        for engine in engines:
            engine.set_down(is_down)
        if not engines:
            link = simulation.links[change.target]
            if change.kind != "bandwidth":
                link.set_bandwidth(0.0 if is_down else link.spec.bandwidth_bytes_s)
            else:
                link.set_bandwidth(change.value)
                return
        simulation.events.at(simulation.events.now_s + simulation.scenario.detection_s, self._notice, change)

    def _notice(self, change: Change) -> None:
        engines, is_down = self._targets(change), change.kind.endswith("_down")
        self.is_any_known = True
        if not engines:
            self._notice_link(self._simulation.links[change.target], is_down)
            return
        for engine in engines:
            engine.is_healthy = not is_down
            engine.touch()
        if is_down:
            self._lose(engines)

    def _notice_link(self, link: Link, is_down: bool) -> None:
        link.is_broken = is_down
        self._simulation.view.look_at_breakers()
        if is_down:
            self._lose([each for each in self._simulation.engines if each.site == link.spec.source])

    def notice_try(self, tried: tuple[Request, int]) -> None:
        """A try that went where something was known to be down has been found to lead nowhere."""
        request, tries = tried
        if request.tries == tries and request in self._simulation.tries.live:
            if not self.is_well(request.decode):
                self._simulation.tries.fail(request, is_decode_lost=True)
            elif self._needs_prefill(request) and not self.is_well(request.prefill):
                self._simulation.tries.fail(request)

    def _lose(self, engines: list[Engine]) -> None:
        """All requests that need one of these."""
        for request in self._simulation.tries.live:
            if request.decode in engines:
                self._simulation.tries.fail(request, is_decode_lost=True)
            elif request.prefill in engines and self._needs_prefill(request):
                self._simulation.tries.fail(request)

    def _needs_prefill(self, request: Request) -> bool:
        """Its cache is not all at the decode engine."""
        return request.transfer is not None or request.prefill.holds(request)
