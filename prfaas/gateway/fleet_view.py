"""The snapshot that placement looks at, made from the configuration, the fleet and what is learnt of both."""

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import NamedTuple

from msgspec import structs

from prfaas.config import Config, EngineConfig, Role
from prfaas.fleet.cache_fit import CacheFit
from prfaas.fleet.fleet import EngineStatus, Fleet, Link
from prfaas.fleet.waiting import Waiting
from prfaas.gateway.engine_speeds import EngineSpeeds
from prfaas.gateway.link_states import LinkStates
from prfaas.gateway.policy import cache_of, policy_of
from prfaas.routing.figures import CacheSize, PrefillRate
from prfaas.routing.snapshot import EngineState, FleetSnapshot, LinkState
from prfaas.types import TransferReport

PREFIX_TOKENS = 256
"""Less than a block of a hybrid model's cache: such a prompt hits nothing worth looking for."""


class _Known(NamedTuple):
    """A state, and what it was made of."""

    status: EngineStatus
    waiting: int
    awaiting: int
    is_broken: bool
    rate: PrefillRate | None
    state: EngineState


class FleetView:
    """Makes snapshots; what has not changed since the last one is used again. Belongs to one event loop.

    Attributes:
        policy: the rules of placement now.
        links: how the links are.
        speeds: how fast engines prefill.
    """

    def __init__(self, config: Config, fleet: Fleet) -> None:
        self._config = config
        self._fleet = fleet
        self._converted: dict[str, Role] = {}
        self._by_operators: set[str] = set()
        self._decoders, self._has_prefillers = self._local_roles()
        self.policy = policy_of(config.policy)
        self.links = LinkStates(config)
        self._cache = cache_of(config.policy)
        self._cache_fit = CacheFit()
        self._waiting, self._awaiting = Waiting[str](), Waiting[str]()
        self._crossing = Waiting[Link]()
        self.speeds = EngineSpeeds(config, fleet.clock)
        self._states: dict[str, _Known] = {}
        self._turn = -1

    def following(self, config: Config) -> "FleetView":
        """The view of the same fleet under another configuration: what waits, what the links carried, the engines'
        speeds and the cache's learnt size go over to it, and roles that operators gave, and while a controller steers
        its threshold and its engines' roles, too, unless the file gives others now. Requests that began with this view
        count in both."""
        view = FleetView(config, self._fleet)
        view._steered_as(self, is_controlled=config.controller.mode == "on")
        view.links = self.links.following(config)
        view.speeds = self.speeds.following(config)
        view._waiting, view._awaiting, view._crossing = self._waiting, self._awaiting, self._crossing
        view._cache_fit = self._cache_fit
        view._cache = view._cache or _size_of(view._cache_fit)
        return view

    def roles(self, engine: str) -> tuple[Role, ...]:
        """What the engine does now."""
        converted = self._converted.get(engine)
        return (converted,) if converted else self._config.engines[engine].roles

    def playing(self, role: Role) -> frozenset[str]:
        """The engines of the gateway's site that play the role now, by name."""
        able = self._config.engines_able(self._config.gateway.site, role)
        return frozenset(name for name in able if role in self.roles(name))

    def convert(self, engine: str, role: Role, *, is_operators: bool = False) -> None:
        """The engine does this from now on, and nothing else; because operators say so, or the controller."""
        self._converted[engine] = role
        (self._by_operators.add if is_operators else self._by_operators.discard)(engine)
        self._states.pop(engine, None)
        self._decoders, self._has_prefillers = self._local_roles()

    def snapshot(self) -> FleetSnapshot:
        """The fleet now, for a decision: each call is another turn."""
        self._turn += 1
        return self.look()

    def look(self) -> FleetSnapshot:
        """The same without a turn, for whoever decides nothing: requests go on taking turns as they would."""
        # A breaker saves time where another engine answers. Where none does, a refusal for certain would save nothing.
        has_spare = any(self.is_usable(name) for name in self._decoders)
        engines = tuple([self._state(name, engine, has_spare) for name, engine in self._config.engines.items()])
        links = tuple([self._judged(link) for link in self.links.states()])
        return FleetSnapshot(self._config.gateway.site, engines, links, self._turn, self._cache)

    def is_usable(self, engine: str) -> bool:
        """It is well and takes new requests."""
        status = self._fleet.status(engine)
        return status.is_healthy and not status.is_draining and self._fleet.breakers.of(engine).admits

    def _judged(self, link: LinkState) -> LinkState:
        """The link with what its circuit breaker says."""
        is_broken = not self._fleet.link_breakers.of((link.source, link.target)).admits
        return structs.replace(link, is_broken=True) if is_broken else link

    @property
    def tokenise_above(self) -> int:
        """A prompt of no more tokens is placed alike whatever its length and its prefix."""
        above = self.policy.threshold_tokens
        if self._has_prefillers:
            above = min(above, self.policy.few_tokens)
        if len(self._decoders) > 1 and self.policy.weights.prefix > 0:
            above = min(above, PREFIX_TOKENS)
        return above

    def prefilling(self, engine: str, tokens: int) -> AbstractContextManager[None]:
        """Count so many tokens as waiting for their prefill at the engine for the duration of a block."""
        return self._waiting.at(engine, tokens)

    def awaiting(self, engine: str) -> AbstractContextManager[None]:
        """Count a request that the engine is to decode as one without its cache for the duration of a block."""
        return self._awaiting.at(engine)

    def crossing(self, link: Link) -> AbstractContextManager[None]:
        """Count a request whose cache is to cross the link for the duration of a block."""
        return self._crossing.at(link)

    def requests_on(self, link: Link) -> int:
        """How many those are now."""
        return self._crossing.of(link)

    def prefill_s(self, engine: str, tokens: int) -> float:
        """How long until so many more tokens are prefilled there, behind those that wait; 0 where nobody knows."""
        rate = self.speeds.of(engine)
        return rate.queue_seconds(self._waiting.of(engine) + tokens) if rate and tokens else 0.0

    def note_transfer(self, report: TransferReport) -> None:
        """Learn the cache's size from a transfer, unless the configuration tells it."""
        if report.ok and report.tokens > 0 and self._config.policy.cache is None:
            self._cache_fit = self._cache_fit.add(report.tokens, report.cache_bytes)
            self._cache = _size_of(self._cache_fit)

    def set_rate(self, engine: str, rate: PrefillRate | None) -> None:
        """What is known of an engine's speed from now on."""
        self.speeds.set(engine, rate)

    def set_threshold(self, tokens: int) -> None:
        """Another t from now on."""
        self.policy = replace(self.policy, threshold_tokens=tokens)

    def _state(self, name: str, engine: EngineConfig, has_spare: bool) -> EngineState:
        """Made anew only when something about the engine has changed: with many engines that is most of a snapshot."""
        status, rate = self._fleet.status(name), self.speeds.of(name)
        waiting, awaiting = self._waiting.of(name), self._awaiting.of(name)
        is_broken = not self._fleet.breakers.of(name).admits and (has_spare or name not in self._decoders)
        known = self._states.get(name)
        if (
            known is None
            or known.status is not status
            or known.waiting != waiting
            or known.awaiting != awaiting
            or known.is_broken != is_broken
            or known.rate is not rate
        ):
            made = self._made(engine, status, waiting, awaiting, is_broken, rate)
            known = self._states[name] = _Known(status, waiting, awaiting, is_broken, rate, made)
        return known.state

    def _made(
        self,
        engine: EngineConfig,
        status: EngineStatus,
        waiting: int,
        awaiting: int,
        is_broken: bool,
        rate: PrefillRate | None,
    ) -> EngineState:
        capacity = engine.max_requests
        return EngineState(
            name=status.name,
            site=engine.site,
            can_prefill="prefill" in self.roles(status.name),
            can_decode="decode" in self.roles(status.name),
            is_healthy=status.is_healthy,
            inflight=status.inflight,
            is_draining=status.is_draining,
            is_broken=is_broken,
            waiting_tokens=waiting,
            capacity=capacity,
            prefill=rate,
            decode_load=None if capacity is None else min(1.0, status.inflight / capacity),
            adapters=self._adapters_of(status),
            awaiting=awaiting,
        )

    def _local_roles(self) -> tuple[frozenset[str], bool]:
        """Which engines decode, and whether others only prefill."""
        decoders = self.playing("decode")
        return decoders, bool(self.playing("prefill") - decoders)

    def _steered_as(self, former: "FleetView", *, is_controlled: bool) -> None:
        """Take over what operators, and a controller if there is one, have set, where the file says what it said
        before."""
        before, now = former._config, self._config
        if is_controlled and before.policy.threshold_tokens == now.policy.threshold_tokens:
            self.set_threshold(former.policy.threshold_tokens)
        for name, role in former._converted.items():
            engine, as_before = now.engines.get(name), before.engines[name]
            is_kept = is_controlled or name in former._by_operators
            if is_kept and engine is not None and engine.convertible and _place(engine) == _place(as_before):
                self.convert(name, role, is_operators=name in former._by_operators)
        self._decoders, self._has_prefillers = self._local_roles()

    def _adapters_of(self, status: EngineStatus) -> frozenset[str] | None:
        """The configured adapters that the engine has. One of the same name and another path is another one."""
        if status.adapters is None:
            return None
        return frozenset(
            name for name, path in self._config.model.adapters.items() if status.adapters.get(name) == path
        )


def _place(engine: EngineConfig) -> tuple[object, ...]:
    """Where it is and what it begins with; an engine elsewhere is another one."""
    return engine.site, engine.url, engine.kv, engine.roles


def _size_of(fit: CacheFit) -> CacheSize | None:
    parts = fit.parts()
    return None if parts is None else CacheSize(*parts)
