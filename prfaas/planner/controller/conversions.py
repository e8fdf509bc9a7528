"""When an engine is converted, and which one: one at a time, seldom, and only for a gain that outweighs its cost.

    cost = what the fleet serves less while the engine drains, for conversion_s
    gain = what it serves more of the demand afterwards, for horizon_s

A conversion is *pending* from the moment it is advised. It *began* when the engine drains, and is *done* when the
engine has its new role. One that does not begin within ``follow_s`` was not followed, as in shadow mode; the next one
then waits for ``reversal_s``.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from prfaas.planner.controller.advice import Conversion, Role
from prfaas.planner.controller.settings import ControllerSettings
from prfaas.routing.snapshot import EngineState, FleetSnapshot

HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Pending:
    """A conversion on its way."""

    conversion: Conversion
    advised_s: float
    has_begun: bool = False


@dataclass(frozen=True, slots=True)
class Wish:
    """What a plan would have.

    Attributes:
        role: that one more engine should have.
        engines: that could take it.
        loss_requests_s: of the demand, that is not served while one of them drains.
        gain_requests_s: of the demand, that is served more once all wanted conversions are done.
        conversions: how many those are.
    """

    role: Role
    engines: Sequence[EngineState]
    loss_requests_s: float
    gain_requests_s: float
    conversions: int


class Conversions:
    """Keeps count. ``waits_for`` says in words what the next one waits for, empty when none is wanted or one begins."""

    def __init__(self, settings: ControllerSettings) -> None:
        self._settings = settings
        self._advised_s: deque[float] = deque(maxlen=max(settings.max_conversions_per_hour, 1))
        self._last: tuple[Role, float] | None = None
        self._wanted: tuple[Role, float] | None = None
        self._held_until_s = float("-inf")
        self.pending: Pending | None = None
        self.waits_for = ""

    def watch(self, now_s: float, fleet: FleetSnapshot) -> tuple[str, ...]:
        """See what became of the pending one; returns what there is to tell of it."""
        pending = self.pending
        if pending is None:
            return ()
        name, role = pending.conversion.engine, pending.conversion.role
        engine = next((each for each in fleet.engines if each.name == name), None)
        if engine is None:
            self.pending = None
            return (f"{name} is gone: it will not {role}",)
        if _has_role(engine, role) and not engine.is_draining:
            self.pending, self._last = None, (role, now_s)
            return (f"{name} is converted: it can {role} now",)
        if engine.is_draining or _has_role(engine, role):
            self.pending = Pending(pending.conversion, pending.advised_s, has_begun=True)
            return ()
        if pending.has_begun:
            self.pending, self._held_until_s = None, now_s + self._settings.reversal_s
            return (f"{name} was not converted: it takes requests again in its former role",)
        if now_s - pending.advised_s > self._settings.follow_s:
            self.pending, self._held_until_s = None, now_s + self._settings.reversal_s
            return (f"the advice to let {name} {role} was not followed",)
        return ()

    def next(self, now_s: float, wish: Wish | None) -> Conversion | None:
        """The conversion to begin now, if any."""
        self.waits_for = ""
        if wish is None:
            self._wanted = None
            return None
        if self._wanted is None or self._wanted[0] != wish.role:
            self._wanted = wish.role, now_s
        self.waits_for = self._obstacle(now_s, wish, self._wanted[1])
        if self.waits_for:
            return None
        engine = min(wish.engines, key=lambda each: (each.waiting_tokens, each.inflight, each.name))
        conversion = Conversion(engine.name, wish.role)
        self.pending, self._last = Pending(conversion, now_s), (wish.role, now_s)
        self._advised_s.append(now_s)
        return conversion

    def _obstacle(self, now_s: float, wish: Wish, since_s: float) -> str:
        """Why not now, empty when nothing is in the way."""
        settings = self._settings
        if self.pending is not None:
            return f"{self.pending.conversion.engine}, which is being converted"
        if not wish.engines:
            return f"an engine that is well and could {wish.role}"
        cost = wish.loss_requests_s * settings.conversion_s * wish.conversions
        if (gain := wish.gain_requests_s * settings.horizon_s) <= cost:
            return f"a gain: {gain:.3g} requests in {settings.horizon_s:g} s do not outweigh {cost:.3g} lost meanwhile"
        if (left_s := since_s + settings.confirm_s - now_s) > 0:
            return f"{left_s:.0f} s more in which it is still wanted"
        if (left_s := self._dwell_end_s(wish.role) - now_s) > 0:
            return f"{left_s:.0f} s more since the last one"
        is_full = len(self._advised_s) >= settings.max_conversions_per_hour
        if is_full and (not self._advised_s or now_s - self._advised_s[0] < HOUR_S):
            return f"fewer than {settings.max_conversions_per_hour} in the last hour"
        return ""

    def _dwell_end_s(self, role: Role) -> float:
        if self._last is None:
            return self._held_until_s
        last_role, last_s = self._last
        return max(
            last_s + (self._settings.dwell_s if role == last_role else self._settings.reversal_s), self._held_until_s
        )


def _has_role(engine: EngineState, role: Role) -> bool:
    """And it alone."""
    return (engine.can_prefill, engine.can_decode) == (role == "prefill", role == "decode")
