"""Conversions of engines: no new requests, wait until those that run have ended, then the other role. No restart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from prfaas.config import Config, Role
from prfaas.gateway.services import GatewayServices
from prfaas.planner.controller.advice import Conversion

Outcome = Literal["converted", "given_up"]


@dataclass(frozen=True, slots=True)
class Underway:
    """One conversion that has begun; times are on the services' clock.

    Attributes:
        is_operators: an operator asked for it, not the controller.
    """

    role: Role
    began_s: float
    ends_s: float
    is_operators: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """One that is over: ``detail`` says how long it took, or why the engine keeps its role; ``is_operators`` is as in
    ``Underway``."""

    engine: str
    role: Role
    outcome: Outcome
    detail: str
    is_operators: bool = False


class Conversions:
    """Begins and ends them. An operator's word about the engine ends one at once; what operators drain stays drained.
    Belongs to one event loop."""

    def __init__(self) -> None:
        self._underway: dict[str, Underway] = {}

    @property
    def underway(self) -> Mapping[str, Underway]:
        """By engine."""
        return self._underway

    def begin(self, services: GatewayServices, wanted: Conversion, *, is_operators: bool = False) -> str:
        """Begin one. Returns why that may not be, empty when it has begun. Operators may do what controllers may."""
        if problem := self._obstacle(services, wanted):
            return problem
        now_s, controller = services.clock.now_s(), services.config.controller
        patience_s = controller.drain_timeout_s or services.config.gateway.request_timeout_s
        services.fleet.set_converting(wanted.engine, is_converting=True)
        self._underway[wanted.engine] = Underway(wanted.role, now_s, now_s + patience_s, is_operators)
        return ""

    def step(self, services: GatewayServices) -> Sequence[Ended]:
        """Look at all of them, each as the one before has left the fleet. Returns those that are over now."""
        ended = []
        for engine, one in list(self._underway.items()):
            if (each := self._look(services, engine, one)) is not None:
                self._end(services, each)
                ended.append(each)
        return ended

    def give_up(self, services: GatewayServices, why: str) -> Sequence[Ended]:
        """End all of the controller; the engines keep their roles and take requests again."""
        ended = [
            Ended(engine, one.role, "given_up", why) for engine, one in self._underway.items() if not one.is_operators
        ]
        for each in ended:
            self._end(services, each)
        return ended

    def _end(self, services: GatewayServices, ended: Ended) -> None:
        one = self._underway.pop(ended.engine)
        if ended.outcome == "converted":
            services.view.convert(ended.engine, ended.role, is_operators=one.is_operators)
        services.fleet.set_converting(ended.engine, is_converting=False)

    def _look(self, services: GatewayServices, engine: str, one: Underway) -> Ended | None:
        """What has become of it, None while requests run."""
        status, now_s = services.fleet.status(engine), services.clock.now_s()

        def given_up(why: str) -> Ended:
            return Ended(engine, one.role, "given_up", why, one.is_operators)

        if not _is_convertible(services.config, engine):
            return given_up("the configuration has changed")
        if status.drained_s is not None:
            return given_up("an operator drained it")
        if status.converting_s is None:
            return given_up("it takes requests again: an operator said so, or it has another address")
        if problem := _shortage(services, engine, one.role):
            return given_up(problem)
        if status.inflight == 0:
            return Ended(engine, one.role, "converted", f"after {now_s - one.began_s:.1f} s", one.is_operators)
        if now_s >= one.ends_s:
            return given_up(f"{status.inflight} requests still ran after {now_s - one.began_s:.0f} s")
        return None

    def _obstacle(self, services: GatewayServices, wanted: Conversion) -> str:
        engine = wanted.engine
        if not _is_convertible(services.config, engine):
            return "it is not convertible"
        if engine in self._underway:
            return f"it is being converted to {self._underway[engine].role}"
        if services.view.roles(engine) == (wanted.role,):
            return f"its role is {wanted.role} already"
        if services.fleet.status(engine).drained_s is not None:
            return "an operator drained it"
        return _shortage(services, engine, wanted.role)


def _shortage(services: GatewayServices, engine: str, wanted: Role) -> str:
    """Whether too few would do what the engine did, empty when enough would. Whatever the controller thinks, the site
    goes on decoding and prefilling; also when others are lost while the engine drains."""
    view, bounds = services.view, services.config.controller
    role: Role = "decode" if wanted == "prefill" else "prefill"
    least = bounds.min_decode_engines if role == "decode" else bounds.min_prefill_engines
    left = [name for name in view.playing(role) - {engine} if view.is_usable(name)]
    return (
        f"{len(left)} other engines would be left to {role}, at least {least} have to be" if len(left) < least else ""
    )


def _is_convertible(config: Config, engine: str) -> bool:
    return engine in config.engines and config.engines[engine].convertible
