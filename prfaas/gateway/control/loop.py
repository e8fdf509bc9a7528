"""The controller's turn, again and again: look, hear what it says, and do it, or only say it."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, get_args

from prfaas.config import Config
from prfaas.config.controller import Mode
from prfaas.gateway.control.conversions import Conversions, Ended
from prfaas.gateway.control.history import Change, History, Kind
from prfaas.gateway.control.told import told
from prfaas.gateway.live import Live
from prfaas.gateway.services import GatewayServices
from prfaas.planner.controller.advice import Advice, Conversion
from prfaas.planner.controller.view import SeenController

MakeController = Callable[[Config], SeenController]
"""A controller for a configuration. Raises ConfigError."""

log = logging.getLogger(__name__)


class ControlLoop:
    """Owns the controller; belongs to one event loop.

    In ``shadow`` the fleet never follows: what is said is logged and kept. In ``on`` the threshold is set at once and
    conversions are begun. In ``off`` nobody is asked, and as in ``shadow`` the configuration's threshold and roles hold.
    """

    def __init__(
        self,
        live: Live,
        make: MakeController,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        unix_s: Callable[[], float] = time.time,
    ) -> None:
        """Raises ConfigError when there can be no controller for the configuration."""
        self._live = live
        self._make = make
        self._sleep = sleep
        self._unix_s = unix_s
        self._history = History()
        self._conversions = Conversions()
        self._made: tuple[object, SeenController] | None = None
        self._advice: Advice | None = None
        self._said: dict[Conversion, str] = {}
        self._looks = self._errors = 0
        self._error = ""
        if live.now.config.controller.mode != "off":
            self._controller(live.now.config)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.step()
            await self._sleep(self._live.now.config.controller.interval_s)

    def step(self) -> None:
        """One look. An error in it is logged and counted, and the next look comes all the same."""
        services = self._live.now
        self._looks += 1
        try:
            self._look(services)
            self._error = ""
        except Exception as error:  # a bug of ours, or a fleet that no model fits: requests are served as they were
            self._errors += 1
            services.metrics.control.count_error()
            problem = f"{type(error).__name__}: {error}"
            if self._error != problem:
                log.exception("the controller failed; threshold and roles stay as they are")
            self._error = problem
        self._tell_metrics(services)

    def overview(self) -> Mapping[str, Any]:
        """Mode, what is wanted, the controller's own state and the last changes, as plain values; ages in seconds."""
        services = self._live.now
        view, now_s, config = services.view, services.clock.now_s(), services.config
        local = [(name, engine) for name, engine in config.engines.items() if engine.site == config.gateway.site]
        return {
            "mode": config.controller.mode,
            "threshold_tokens": view.policy.threshold_tokens,
            "configured_threshold_tokens": config.policy.threshold_tokens,
            "wanted_threshold_tokens": self._wanted(config),
            "engines": [
                {
                    "name": name,
                    "roles": list(view.roles(name)),
                    "configured_roles": list(engine.roles),
                    "is_convertible": engine.convertible,
                }
                for name, engine in local
            ],
            "conversions": [
                {"engine": name, "role": one.role, "for_s": round(now_s - one.began_s, 3)}
                for name, one in self._conversions.underway.items()
            ],
            "state": None if self._made is None else told(self._made[1].state()),
            "looks": self._looks,
            "errors": self._errors,
            "last_error": self._error,
            "changes": self._history.latest_first(),
        }

    def _look(self, services: GatewayServices) -> None:
        config, mode = services.config, services.config.controller.mode
        if mode != "on":
            self._note_ended(services, self._conversions.give_up(services, f"the controller is {mode} now"))
        taken = services.demand.take()
        if mode == "off":
            self._advice, self._made = None, None
            return
        self._note_ended(services, self._conversions.step(services))
        controller = self._controller(config)
        for at_s, tokens in taken.arrivals:
            controller.note_arrival(at_s, tokens)
        for tokens in taken.answers:
            controller.note_answer(tokens)
        self._follow(services, controller.step(services.clock.now_s(), services.view.look()))

    def _controller(self, config: Config) -> SeenController:
        """The one for this configuration; it learns anew only where something that it was made of has changed."""
        basis = (config.controller, config.model.max_model_len, tuple(config.convertible_engines()), config.gateway.site)
        if self._made is None or self._made[0] != basis:
            self._made = basis, self._make(config)
            self._advice, self._said = None, {}
        return self._made[1]

    def _follow(self, services: GatewayServices, advice: Advice) -> None:
        before, self._advice = self._advice, advice
        is_told = self._follow_threshold(services, before)
        said, self._said = self._said, {}
        for wanted in advice.conversions:
            is_told |= self._follow_conversion(services, wanted, said)
        if advice.reasons and not is_told and (before is None or before.reasons != advice.reasons):
            self._note(services, "note", "; ".join(advice.reasons))

    def _follow_threshold(self, services: GatewayServices, before: Advice | None) -> bool:
        """Returns whether there was something to say."""
        is_on = services.config.controller.mode == "on"
        wanted, now = self._wanted(services.config), services.view.policy.threshold_tokens
        assert wanted is not None and self._advice is not None
        is_new = before is None or before.threshold_tokens != self._advice.threshold_tokens
        if wanted == now or not (is_on or is_new):
            return False
        if is_on:
            services.view.set_threshold(wanted)
        what = f"threshold from {now} to {wanted} tokens"
        self._note(services, "threshold", what if is_on else f"would set the {what}", self._advice.reasons)
        return True

    def _follow_conversion(self, services: GatewayServices, wanted: Conversion, said: Mapping[Conversion, str]) -> bool:
        """Begin it, or say that it would be begun, or why it is not; the same is said once in a row."""
        assert self._advice is not None
        is_on = services.config.controller.mode == "on"
        problem = self._conversions.begin(services, wanted) if is_on else ""
        self._said[wanted] = problem
        if not problem and is_on:
            what = f"{wanted.engine} begins to be converted to {wanted.role}"
        elif said.get(wanted) == problem:
            return False
        else:
            what = f"{'cannot' if problem else 'would'} convert {wanted.engine} to {wanted.role}"
            what += f": {problem}" if problem else ""
        self._note(services, "note" if problem else "conversion", what, self._advice.reasons)
        return True

    def _note_ended(self, services: GatewayServices, ended: Sequence[Ended]) -> None:
        for each in ended:
            services.metrics.control.count_conversion(each.role, each.outcome)
            word = "is converted" if each.outcome == "converted" else "is not converted"
            self._note(services, each.outcome, f"{each.engine} {word} to {each.role}: {each.detail}")

    def _note(self, services: GatewayServices, kind: Kind, what: str, reasons: tuple[str, ...] = ()) -> None:
        mode = services.config.controller.mode
        log.info("controller (%s): %s%s", mode, what, f": {'; '.join(reasons)}" if reasons else "")
        services.metrics.control.count_change(kind, mode)
        self._history.add(Change(round(self._unix_s(), 3), mode, kind, what, reasons))

    def _wanted(self, config: Config) -> int | None:
        """The controller's threshold as the policy has it: no prompt is longer than the model allows."""
        if self._advice is None:
            return None
        threshold = self._advice.threshold_tokens
        return config.model.max_model_len if threshold is None else threshold

    def _tell_metrics(self, services: GatewayServices) -> None:
        metrics, mode = services.metrics.control, services.config.controller.mode
        metrics.set_mode(mode, get_args(Mode))
        metrics.threshold.set(services.view.policy.threshold_tokens)
        if (wanted := self._wanted(services.config)) is not None:
            metrics.wanted.set(wanted)
        if self._made is not None:
            state = self._made[1].state()
            metrics.arrival_rate.set(state.estimates.requests_s)
            if state.now is not None:
                metrics.capacity.set(state.now.requests_s)
