"""The breakers of all engines, or of all links: who may go through, and what came of it."""

from collections.abc import Container
from typing import Generic, TypeVar

from prfaas.clock import Clock
from prfaas.fleet.breaker import Breaker, BreakerPolicy

Key = TypeVar("Key")


class Breakers(Generic[Key]):
    """One breaker for each engine or link, made at first use. Belongs to one event loop."""

    def __init__(self, clock: Clock, policy: BreakerPolicy | None = None) -> None:
        self._clock = clock
        self._new = Breaker(policy or BreakerPolicy(), since_s=clock.now_s())
        self._breakers: dict[Key, Breaker] = {}

    def of(self, key: Key) -> Breaker:
        """The breaker as it is now."""
        return self._breakers.get(key, self._new).at(self._clock.now_s())

    def admit(self, key: Key, *, is_forced: bool = False) -> "Permit[Key] | None":
        """Let a request through; None when the breaker is against it, unless the request has no other way."""
        breaker = self.of(key)
        if not (breaker.admits or is_forced):
            return None
        self._breakers[key] = breaker.entered()
        return Permit(self, key, breaker.generation)

    def blame(self, key: Key) -> None:
        """Something failed that needs no permit any more, such as a stream after its first output."""
        breaker = self.of(key)
        self.put(key, breaker.told(breaker.generation, False, self._clock.now_s()))

    def keep(self, keys: Container[Key]) -> None:
        """Forget all other breakers."""
        self._breakers = {key: breaker for key, breaker in self._breakers.items() if key in keys}

    def told(self, key: Key, generation: int, is_success: bool) -> None:
        """For permits."""
        self.put(key, self.of(key).told(generation, is_success, self._clock.now_s()))

    def left(self, key: Key, generation: int) -> None:
        """For permits."""
        self.put(key, self.of(key).left(generation))

    def put(self, key: Key, breaker: Breaker) -> None:
        """The breaker from now on; one that is as at first needs no place."""
        if breaker is not self._new:
            self._breakers[key] = breaker


class Permit(Generic[Key]):
    """One request's way through a breaker; ends once, by the first of its methods that is called."""

    def __init__(self, breakers: Breakers[Key], key: Key, generation: int) -> None:
        self._breakers = breakers
        self._key = key
        self._generation = generation
        self._is_ended = False

    def end(self, is_success: bool) -> None:
        """The other side did, or did not do, what it should."""
        if self._end():
            self._breakers.told(self._key, self._generation, is_success)

    def drop(self) -> None:
        """Nothing was learnt of the other side: the client left, or the fault lies elsewhere."""
        if self._end():
            self._breakers.left(self._key, self._generation)

    def _end(self) -> bool:
        was_ended, self._is_ended = self._is_ended, True
        return not was_ended
