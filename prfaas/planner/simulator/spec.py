"""What is simulated: engines, links, what changes meanwhile, and what users are promised."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from prfaas.errors import ConfigError
from prfaas.planner.profile import EngineProfile
from prfaas.planner.simulator.request import Arrival

Role = Literal["prefill", "decode", "both"]

MAX_ENGINES = 4096
"""Every decision looks at each of them."""


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """One engine.

    Attributes:
        batch: most answers that it decodes at once, within its decode profile.
        chunk_tokens: prompt tokens in one step at most (``max_num_batched_tokens``); matters beside a batch.
        overlap: share of a decode step that costs nothing in a step with a chunk of a prefill, in [0, 1]: where decode
            waits for memory and prefill for compute they pass each other partly. 0 is the careful guess.
        capacity: what the router is told (``engines.*.max_requests``), None when nothing.
        cache_tokens: of prompts, kept for reuse; 0 for no prefix cache.
    """

    name: str
    site: str
    profile: EngineProfile
    role: Role
    batch: int = 0
    chunk_tokens: int = 8192
    overlap: float = 0.0
    capacity: int | None = None
    cache_tokens: int = 0

    def __post_init__(self) -> None:
        if self.role != "prefill" and self.profile.decode is None:
            raise ConfigError(f"{self.name}: {self.profile.name}: the profile says nothing of decode: measure it")
        if self.chunk_tokens < 1 or not 0 <= self.overlap <= 1 or self.cache_tokens < 0:
            raise ConfigError(f"{self.name}: chunk_tokens from 1, overlap in [0, 1] and cache_tokens from 0")
        if not self.batch and self.profile.decode is not None:
            object.__setattr__(self, "batch", self.profile.decode.batch[-1])


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """From one site to the site that decodes. A bandwidth of 0 is a link that is there and carries nothing."""

    source: str
    bandwidth_bytes_s: float
    rtt_s: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.bandwidth_bytes_s < math.inf and 0 <= self.rtt_s < math.inf):
            raise ConfigError(f"the link from {self.source}: bandwidth and round trip have to be 0 or more, and finite")


@dataclass(frozen=True, slots=True)
class FleetSpec:
    """Engines and links; requests are decoded at ``site``.

    Raises:
        ConfigError: names twice, no engine that decodes at ``site``, engines out of reach.
    """

    site: str
    engines: tuple[EngineSpec, ...]
    links: tuple[LinkSpec, ...] = ()

    def __post_init__(self) -> None:
        names = [engine.name for engine in self.engines]
        if len(set(names)) < len(names) or len(names) > MAX_ENGINES:
            raise ConfigError(f"engines: {len(names)} names have to differ and be {MAX_ENGINES} at most")
        if not any(engine.site == self.site and engine.role != "prefill" for engine in self.engines):
            raise ConfigError(f"site {self.site}: no engine there decodes: give one the role decode or both")
        sources = [link.source for link in self.links]
        for engine in self.engines:
            if engine.site != self.site and (engine.role != "prefill" or engine.site not in sources):
                raise ConfigError(f"{engine.name}: an engine of another site has to prefill only, behind a link")
        if len(set(sources)) < len(sources) or self.site in sources:
            raise ConfigError(f"links: one from each other site to {self.site}")


@dataclass(frozen=True, slots=True)
class Change:
    """Something that happens to the fleet.

    Attributes:
        kind: ``bandwidth`` of the link from ``target`` becomes ``value`` bytes/s; the link, site or engine ``target``
            goes ``down`` or comes ``up``.
    """

    at_s: float
    kind: Literal["bandwidth", "link_down", "link_up", "site_down", "site_up", "engine_down", "engine_up"]
    target: str
    value: float = 0.0


@dataclass(frozen=True, slots=True)
class Promise:
    """When an answer is good: its first token came in time, and the others at this pace on average."""

    first_token_s: float
    token_s: float

    def __post_init__(self) -> None:
        if not (self.first_token_s > 0 and self.token_s > 0):
            raise ConfigError("slo: first_token_s and token_s have to be above 0")


@dataclass(frozen=True, slots=True)
class Scenario:
    """All but the policy.

    Attributes:
        arrivals: makes the requests, the same ones at each call; read one at a time.
        detection_s: until a failure, or its end, is known.
        interval_s: between two looks at the links, and two steps of the controller.
        remote_timeout_s: a cache that takes longer is given up (``policy.remote_timeout_s``).
        max_waiting: requests in the fleet at most, others are refused as the gateway's gate does; bounds memory.
        conversion_s: from an empty engine to one with the other role.
    """

    name: str
    fleet: FleetSpec
    arrivals: Callable[[], Iterable[Arrival]]
    promise: Promise
    changes: tuple[Change, ...] = ()
    detection_s: float = 2.0
    interval_s: float = 1.0
    remote_timeout_s: float = 60.0
    max_waiting: int = 4096
    conversion_s: float = 0.0
