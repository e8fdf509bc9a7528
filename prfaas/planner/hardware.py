"""The engines and the link that a plan divides up."""

import math
from dataclasses import dataclass

from prfaas.errors import ConfigError
from prfaas.planner.profile import EngineProfile

MAX_ENGINES = 100_000
SLOWEST_LINK_BYTES_S = 125_000.0
"""1 Mbit/s: nobody sends caches over less, so a smaller figure is in Mbit/s or Gbit/s."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """What there is.

    Attributes:
        local: the engines of the local site, each of which either prefills or decodes.
        local_engines: how many, N_p + N_d.
        remote: the engines of the remote site, which only prefill; None when there are none.
        remote_engines: how many, N_prfaas.
        egress_bytes_s: what leaves the remote site at most, B_out; 0 without a link.

    Raises:
        ConfigError: numbers that cannot be right; local engines without a decode profile.
    """

    local: EngineProfile
    local_engines: int
    remote: EngineProfile | None = None
    remote_engines: int = 0
    egress_bytes_s: float = 0.0

    def __post_init__(self) -> None:
        for name, engines, least in (("local", self.local_engines, 1), ("remote", self.remote_engines, 0)):
            if not least <= engines <= MAX_ENGINES:
                raise ConfigError(f"{name}_engines: {engines}: has to be {least} to {MAX_ENGINES}")
        if self.local.decode is None:
            raise ConfigError(
                f"{self.local.name}: the profile says nothing of decode, which local engines do: measure it"
            )
        if self.remote is None and self.remote_engines:
            raise ConfigError(f"remote_engines: {self.remote_engines}: without a profile: give the remote engines' one")
        if not 0 <= self.egress_bytes_s < math.inf:
            raise ConfigError(f"egress_bytes_s: {self.egress_bytes_s:g}: has to be 0 or more, and finite")
        if 0 < self.egress_bytes_s < SLOWEST_LINK_BYTES_S:
            raise ConfigError(
                f"egress_bytes_s: {self.egress_bytes_s:g} bytes a second carry no caches; are these Gbit/s? "
                "1 Gbit/s is 1.25e8"
            )

    @property
    def has_remote(self) -> bool:
        """Anything can be prefilled remotely at all."""
        return self.remote is not None and self.remote_engines > 0 and self.egress_bytes_s > 0
