"""The controller's turn, again and again: tell it what came, let it look at the fleet, follow what it says."""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, get_args

from prfaas.config import Config
from prfaas.config.controller import Mode
from prfaas.errors import RequestRejected
from prfaas.fleet.fleet import NOT_PROBED
from prfaas.gateway.control.follow import Follower, threshold_of
from prfaas.gateway.control.history import History
from prfaas.gateway.control.make import basis_of
from prfaas.gateway.control.told import Seen, overview_of
from prfaas.gateway.live import Live
from prfaas.gateway.operator import check_engine
from prfaas.gateway.services import GatewayServices
from prfaas.planner.controller.advice import Conversion
from prfaas.planner.controller.view import ControllerState, SeenController

MakeController = Callable[[Config, SeenController | None], SeenController]
"""A controller for a configuration, and the one that it comes after, if any. Raises ConfigError."""

MANY_WORKERS = "each of several workers has its own view of the roles; set gateway.workers: 1"

log = logging.getLogger(__name__)


class ControlLoop:
    """Owns the controller, and makes another one when the configuration calls for it; belongs to one event loop.

    In ``shadow`` the fleet never follows: what is said is logged and kept. In ``on`` the threshold is set at once and
    conversions are begun. In ``off`` nobody is asked; then, as in ``shadow``, threshold and roles are the file's, but
    for roles that operators give: those conversions go on in every mode.
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
        self._history = History(unix_s)
        self._follower = Follower(self._history)
        self._made: tuple[object, SeenController] | None = None
        self._has_begun = False
        self._mode = live.now.config.controller.mode
        self._looks = self._errors = 0
        self._error = ""
        self._follow(live.now.config)
        live.follow_with(self._follow)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.step()
            await self._sleep(self._live.now.config.controller.interval_s)

    def step(self) -> None:
        """One look. An error in it is logged and counted, and the next look comes all the same."""
        services = self._live.now
        if not self._may_begin(services):
            return
        self._looks += 1
        try:
            self._look(services)
            self._tell_metrics(services)
            self._error = ""
        except Exception as error:  # a bug of ours, or a fleet that no model fits: requests are served as they were
            self._errors += 1
            services.metrics.control.count_error()
            problem = f"{type(error).__name__}: {error}"
            if self._error != problem:
                log.exception("the controller failed; threshold and roles stay as they are")
            self._error = problem

    @property
    def seen(self) -> Seen:
        """The controller as it is, for whoever shows it in other words."""
        follower, (state, error) = self._follower, self._state()
        return Seen(follower.advice, follower.conversions.underway, state, self._history.latest, error)

    @property
    def arrival_requests_s(self) -> float | None:
        """What arrives at this worker, as the controller estimates it; None without one."""
        try:
            return self._made[1].state().estimates.requests_s if self._made else None
        except Exception:  # a broken controller, which the loop tells of, hides no load
            return None

    def convert(self, wanted: Conversion) -> None:
        """Have an engine converted because an operator says so; what becomes of it is in the overview.

        Raises:
            RequestRejected: there is no such engine, or it may not be, with the reason.
        """
        services = self._live.now
        check_engine(services, wanted.engine)
        problem = self._follower.convert(services, wanted) if services.config.gateway.workers == 1 else MANY_WORKERS
        if problem:
            message = f"{wanted.engine} cannot be converted to {wanted.role}: {problem}."
            raise RequestRejected(409, message, param="role", code="cannot_convert")

    def overview(self) -> Mapping[str, Any]:
        """Mode, what is wanted, the controller's own state and the last changes, as plain values; ages in seconds."""
        state, error = self._state()
        return {
            **overview_of(self._live.now, self._follower, state),
            "looks": self._looks,
            "errors": self._errors,
            "last_error": error,
            "changes": self._history.latest_first(),
            "brief_changes": self._history.latest_first(is_brief=True),
        }

    def _state(self) -> tuple[ControllerState | None, str]:
        """What the controller knows, None while there is none, and what is wrong with it, empty when nothing is."""
        try:
            return self._made[1].state() if self._made else None, self._error
        except Exception as error:  # a bug of ours: whoever looks for the trouble has to see the rest of the fleet
            return None, f"{type(error).__name__}: {error}"

    def _may_begin(self, services: GatewayServices) -> bool:
        """Once every engine has been heard of: before that all look as if they were lost."""
        statuses = services.fleet.statuses()
        self._has_begun = self._has_begun or all(status.problem != NOT_PROBED for status in statuses)
        return self._has_begun

    def _look(self, services: GatewayServices) -> None:
        mode, taken = services.config.controller.mode, services.demand.take()
        if mode != self._mode:
            self._mode = mode
            self._follower.let_go(services, f"the controller is {mode} now")
            self._follower.forget()  # what was said of doing it is not said of not doing it, and the other way round
        self._follower.settle(services)
        if mode == "off" or self._made is None:
            self._made = None
            return
        controller = self._made[1]
        for at_s, tokens in taken.arrivals:
            controller.note_arrival(at_s, tokens)
        for tokens in taken.answers:
            controller.note_answer(tokens)
        self._follower.follow(services, controller.step(services.clock.now_s(), services.view.look()))

    def _follow(self, config: Config) -> bool:
        """Have the controller for this configuration; returns whether it is another one. It learns anew only where
        something that it is made of has changed. Raises ConfigError: then all stays as it was."""
        if config.controller.mode == "off":
            return False
        basis = basis_of(config)
        if self._made is not None and self._made[0] == basis:
            return False
        self._made = basis, self._make(config, self._made[1] if self._made else None)
        self._follower.forget()
        return True

    def _tell_metrics(self, services: GatewayServices) -> None:
        metrics = services.metrics.control
        metrics.set_mode(services.config.controller.mode, get_args(Mode))
        metrics.threshold.set(services.view.policy.threshold_tokens)
        advice, state = self._follower.advice, self._made[1].state() if self._made else None
        # What nobody knows now is no figure: one of before would look like one of now.
        metrics.wanted.set(math.nan if advice is None else threshold_of(services.config, advice))
        metrics.arrival_rate.set(state.estimates.requests_s if state else math.nan)
        metrics.capacity.set(state.now.requests_s if state and state.now else math.nan)
