"""When engines are converted, and which: seldom, and only for a gain that outweighs its cost.

    cost = what the fleet serves less of the demand while engines drain, for conversion_s
    gain = what it serves more of the demand afterwards, for horizon_s

Several go at once only where the others can do all that is asked meanwhile. A conversion is *pending* from the moment
it is advised. It *began* when the engine drains, and is *done* when the engine has its new role; nothing new is advised
until all are done. One that does not begin within ``follow_s`` was not followed, as in shadow mode; the next one then
waits for ``reversal_s``.
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
        role: that more engines should have.
        engines: that could take it.
        at_once: how many may drain together.
        loss_requests_s: of the demand, that is not served while they do.
        gain_requests_s: of the demand, that is served more once all wanted conversions are done.
        rounds: of so many at once, until then.
        is_rescue: nothing at all can be served before.
    """

    role: Role
    engines: Sequence[EngineState]
    at_once: int
    loss_requests_s: float
    gain_requests_s: float
    rounds: int
    is_rescue: bool = False


class Conversions:
    """Keeps count. ``waits_for`` says in words what the next one waits for, empty when none is wanted or one begins."""

    def __init__(self, settings: ControllerSettings) -> None:
        self._settings = settings
        self._advised_s: deque[float] = deque(maxlen=max(settings.max_conversions_per_hour, 1))
        self._last: tuple[Role, float] | None = None
        self._wanted: tuple[Role, float] | None = None
        self._held_until_s = float("-inf")
        self._pending: dict[str, Pending] = {}
        self.waits_for = ""

    def following(self, settings: ControllerSettings) -> "Conversions":
        """The same under other settings: what was done counts on, what is wanted has to be confirmed anew."""
        after = Conversions(settings)
        after._advised_s.extend(self._advised_s)
        after._last, after._held_until_s, after._pending = self._last, self._held_until_s, dict(self._pending)
        return after

    @property
    def pending(self) -> tuple[Pending, ...]:
        """In the order in which they were advised."""
        return tuple(self._pending.values())

    def watch(self, now_s: float, fleet: FleetSnapshot) -> tuple[str, ...]:
        """See what became of the pending ones; returns what there is to tell of them."""
        if not self._pending:
            return ()
        engines = {engine.name: engine for engine in fleet.engines}
        told = [self._look(now_s, each, engines.get(each.conversion.engine)) for each in self.pending]
        return tuple(each for each in told if each)

    def _look(self, now_s: float, pending: Pending, engine: EngineState | None) -> str:
        name, role = pending.conversion.engine, pending.conversion.role
        if engine is None:
            del self._pending[name]
            return f"{name} is gone: it will not {role}"
        if _has_role(engine, role) and not engine.is_draining:
            del self._pending[name]
            self._last = role, now_s
            return f"{name} is converted: it can {role} now"
        if engine.is_draining or _has_role(engine, role):
            self._pending[name] = Pending(pending.conversion, pending.advised_s, has_begun=True)
            return ""
        if not pending.has_begun and now_s - pending.advised_s <= self._settings.follow_s:
            return ""
        del self._pending[name]
        self._held_until_s = now_s + self._settings.reversal_s
        if pending.has_begun:
            return f"{name} was not converted: it takes requests again in its former role"
        return f"the advice to let {name} {role} was not followed"

    def next(self, now_s: float, wish: Wish | None) -> tuple[Conversion, ...]:
        """The conversions to begin now, if any."""
        self.waits_for = ""
        if wish is None:
            self._wanted = None
            return ()
        if self._wanted is None or self._wanted[0] != wish.role:
            self._wanted = wish.role, now_s
        self.waits_for = self._obstacle(now_s, wish, self._wanted[1])
        if self.waits_for:
            return ()
        idlest = sorted(wish.engines, key=lambda each: (each.waiting_tokens, each.inflight, each.name))
        begun = tuple(Conversion(engine.name, wish.role) for engine in idlest[: min(wish.at_once, self._left(now_s))])
        self._pending = {each.engine: Pending(each, now_s) for each in begun}
        self._last = wish.role, now_s
        self._advised_s.extend(now_s for _ in begun)
        return begun

    def _obstacle(self, now_s: float, wish: Wish, since_s: float) -> str:
        """Why not now, empty when nothing is in the way."""
        settings = self._settings
        if self._pending:
            return f"{', '.join(self._pending)} to be converted"
        if not wish.engines:
            return f"an engine that is well and could {wish.role}"
        cost, gain = wish.loss_requests_s * settings.conversion_s * wish.rounds, wish.gain_requests_s
        if (gain := gain * settings.horizon_s) <= cost:
            return f"a gain: {gain:.3g} requests in {settings.horizon_s:g} s do not outweigh {cost:.3g} lost meanwhile"
        if (left_s := since_s + settings.confirm_s - now_s) > 0:
            return f"{left_s:.0f} s more in which it is still wanted"
        # Pauses spare a fleet that serves; one that serves nothing has nothing to spare.
        if not wish.is_rescue and (left_s := self._dwell_end_s(wish.role) - now_s) > 0:
            return f"{left_s:.0f} s more since the last one"
        return "" if self._left(now_s) else f"fewer than {settings.max_conversions_per_hour} in the last hour"

    def _left(self, now_s: float) -> int:
        """How many may begin without being too many in the last hour."""
        lately = sum(now_s - each < HOUR_S for each in self._advised_s)
        return max(self._settings.max_conversions_per_hour - lately, 0)

    def _dwell_end_s(self, role: Role) -> float:
        if self._last is None:
            return self._held_until_s
        last_role, last_s = self._last
        pause_s = self._settings.dwell_s if role == last_role else self._settings.reversal_s
        return max(last_s + pause_s, self._held_until_s)


def _has_role(engine: EngineState, role: Role) -> bool:
    """And it alone."""
    return (engine.can_prefill, engine.can_decode) == (role == "prefill", role == "decode")
