"""Small fleets with round numbers to simulate."""

from typing import Any

from prfaas.planner.curve import Quadratic
from prfaas.planner.decode import DecodeProfile
from prfaas.planner.profile import EngineProfile
from prfaas.planner.simulator.arrivals import listed
from prfaas.planner.simulator.request import Arrival
from prfaas.planner.simulator.spec import EngineSpec, FleetSpec, LinkSpec, Promise, Role, Scenario

STEP_S = 0.01
DECODE = DecodeProfile((64,), (STEP_S,))
HAND_OVER_S = 0.02
"""The router's policy says so."""


def profile(s_per_token: float = 1e-3, decode: DecodeProfile = DECODE, fixed_s: float = 0.0) -> EngineProfile:
    """1,000 tokens a second, 10 ms a step; caches of 1,000 bytes a token and 1 MB."""
    return EngineProfile("round", Quadratic(fixed_s, s_per_token), Quadratic(1e6, 1000.0), decode)


def engine(name: str, role: Role = "decode", site: str = "edge", **fields: Any) -> EngineSpec:
    return EngineSpec(name, site, fields.pop("profile", profile()), role, **fields)


def fleet(prefill: int = 1, decode: int = 1, remote: int = 0, bandwidth_bytes_s: float = 1e9) -> FleetSpec:
    """So many engines of each kind, all of the same speed."""
    engines = [engine(f"p{at}", "prefill") for at in range(prefill)] + [engine(f"d{at}") for at in range(decode)]
    engines += [engine(f"r{at}", "prefill", "cloud") for at in range(remote)]
    return FleetSpec("edge", tuple(engines), (LinkSpec("cloud", bandwidth_bytes_s),) if remote else ())


def scenario(spec: FleetSpec, *arrivals: Arrival, **fields: Any) -> Scenario:
    """These arrivals, or those of ``arrivals=``; answers are good within 10 s, at 20 tokens a second."""
    fields = {"arrivals": listed(arrivals), "promise": Promise(10.0, 0.05), **fields}
    return Scenario("test", spec, **fields)
