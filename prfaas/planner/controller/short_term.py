"""The short time scale: t moves away from the planned one, in steps, as long as links and queues demand it.

Two parts, added up; a step up multiplies t by ``step``, so that fewer requests go remote:

    link    utilisation >= link_high: a step up every step_s; unless local prefills wait longer already, or so much
            waits to cross that the link is busy with what was sent before: then the other part answers. < link_low: a
            step back every relax_s. In between it stays. Never below 0: an idle link is no reason to use it more than
            planned. When the plan itself raises t, the steps that this makes up for are taken back
    queues  (wait of a remote prefill - wait of a local one) / (queue_scale mean prefills), as whole steps; it changes
            only when the quotient is more than one step off. Up or down: a local burst goes remote while the link has
            room

The link's part reacts to a rate, which has no memory, so it adds steps up; the queues' part to backlogs, which have, so
it is in proportion and vanishes with them.
"""

import math
from dataclasses import dataclass

from prfaas.planner.controller.decayed import DecayedMean
from prfaas.planner.controller.pressure import Pressure
from prfaas.planner.controller.settings import ControllerSettings


@dataclass(frozen=True, slots=True)
class Shift:
    """Steps by which t is moved, and why; ``reasons`` is empty when nothing changed."""

    steps: int
    reasons: tuple[str, ...] = ()


class ShortTerm:
    """Called at every step of the controller, while there is a remote site."""

    def __init__(self, settings: ControllerSettings) -> None:
        self._settings = settings
        self._link = self._queues = 0
        self._link_moved_s = float("-inf")
        self._used = DecayedMean(settings.link_smoothing_s)

    @property
    def steps(self) -> int:
        most = self._settings.max_steps
        return max(-most, min(self._link + self._queues, most))

    def reset(self) -> None:
        """Nothing is known any more: the remote site was lost."""
        self._link = self._queues = 0

    def follow(self, before_tokens: int, planned_tokens: int) -> None:
        """The planned t is another one now."""
        if planned_tokens > before_tokens > 0:
            made_up = math.log(planned_tokens / before_tokens) / math.log(self._settings.step)
            self._link = max(self._link - round(made_up), 0)

    def step(self, now_s: float, pressure: Pressure, mean_prefill_s: float) -> Shift:
        before = self.steps
        reasons = (*self._step_link(now_s, pressure), *self._step_queues(pressure, mean_prefill_s))
        return Shift(self.steps, reasons if self.steps != before else ())

    def _step_link(self, now_s: float, pressure: Pressure) -> tuple[str, ...]:
        settings = self._settings
        self._used.add(now_s, pressure.link_utilisation)
        used = self._used.mean() or 0.0
        since_s = now_s - self._link_moved_s
        if used >= settings.link_high and pressure.link_s <= settings.step_s and pressure.local_s <= pressure.away_s:
            if self._link < settings.max_steps and since_s >= settings.step_s:
                self._link, self._link_moved_s = self._link + 1, now_s
                return (f"the links are used to {used:.0%}, at least {settings.link_high:.0%}",)
        elif used < settings.link_low and self._link and since_s >= settings.relax_s:
            self._link, self._link_moved_s = self._link - 1, now_s
            return (f"the links are used to {used:.0%}, less than {settings.link_low:.0%}",)
        return ()

    def _step_queues(self, pressure: Pressure, mean_prefill_s: float) -> tuple[str, ...]:
        most = self._settings.max_steps
        scale_s = self._settings.queue_scale * mean_prefill_s
        wanted = (pressure.away_s - pressure.local_s) / scale_s if scale_s > 0 else 0.0
        if abs(wanted - self._queues) <= 1:
            return ()
        self._queues = max(-most, min(int(wanted), most))
        waits = f"a remote prefill waits {pressure.away_s:.2g} s, a local one {pressure.local_s:.2g} s"
        return (f"{waits}; {scale_s:.2g} s are a step",)
