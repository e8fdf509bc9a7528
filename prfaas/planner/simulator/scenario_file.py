"""A scenario as a YAML or JSON file, checked as the configuration is; paths in it are relative to it.

name: case study
site: edge                                   # where requests are decoded
engines:                                     # groups of equal ones
  - {name: edge, site: edge, count: 8, role: decode, profile: h20.yaml}
  - {name: cloud, site: cloud, count: 4, role: prefill, profile: h200.yaml}
links: [{from: cloud, gbps: 100, rtt_ms: 20}]
workload:                                    # or: trace: {path: trace.jsonl}
  requests_s: 2.6
  duration_s: 3600
  lengths: {mu: 9.9, sigma: 1.0, min_tokens: 128, max_tokens: 131072}     # log-normal; or tokens: [1000, 2000]
  output_tokens: 1024
slo: {first_token_s: 15, token_s: 0.025}
events: [{at_s: 600, kind: bandwidth, target: cloud, gbps: 8}]            # may be left out, as all below
policies: [homogeneous, naive, fixed, controller, predictive, oracle]
threshold_tokens: 19400                      # of fixed, and where the controller begins; else the planner's
prefill_engines: 3
seeds: [0, 1, 2]
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from prfaas.errors import ConfigError
from prfaas.planner.lengths import EmpiricalLengths, Lengths
from prfaas.planner.log_normal import LogNormalLengths
from prfaas.planner.profile_file import load_profile
from prfaas.planner.simulator.arrivals import Prefixes, Synthetic, Trace, constant, ramp
from prfaas.planner.simulator.contestants import CONTESTANTS, Contestant, Given
from prfaas.planner.simulator.spec import MAX_ENGINES, Change, EngineSpec, FleetSpec, LinkSpec, Promise, Role, Scenario

GBIT_BYTES = 1e9 / 8
MAX_SEEDS = 100
"""Each is a run of every policy."""

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Tokens = Annotated[int, Field(ge=0)]
Name = Annotated[str, Field(min_length=1, max_length=200)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class EngineGroup(_Section):
    name: Name
    site: Name
    role: Role
    profile: Name
    count: Annotated[int, Field(ge=1, le=MAX_ENGINES)] = 1
    batch: Count | None = None
    chunk_tokens: Count = 8192
    overlap: Annotated[float, Field(ge=0, le=1)] = 0
    max_requests: Count | None = None
    cache_tokens: Tokens = 0

    def specs(self, folder: Path) -> list[EngineSpec]:
        profile = load_profile(folder / self.profile)
        names = [self.name] if self.count == 1 else [f"{self.name}-{at}" for at in range(self.count)]
        rest = (self.batch or 0, self.chunk_tokens, self.overlap, self.max_requests, self.cache_tokens)
        return [EngineSpec(name, self.site, profile, self.role, *rest) for name in names]


class LinkSection(_Section):
    source: Annotated[Name, Field(alias="from")]
    gbps: NotNegative
    rtt_ms: NotNegative = 0


class LengthsSection(_Section):
    mu: float | None = None
    sigma: Positive | None = None
    min_tokens: Count = 1
    max_tokens: Count = 131_072
    tokens: Annotated[list[Count], Field(max_length=1_000_000)] | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.tokens is None) == (self.mu is None or self.sigma is None):
            raise ValueError("needs either tokens, or mu and sigma")
        return self

    def lengths(self) -> Lengths:
        if self.tokens is not None:
            return EmpiricalLengths.of(self.tokens)
        assert self.mu is not None
        assert self.sigma is not None
        return LogNormalLengths(self.mu, self.sigma, self.min_tokens, self.max_tokens)


class PrefixesSection(_Section):
    share: Annotated[float, Field(ge=0, lt=1)]
    groups: Count = 64


class DriftSection(_Section):
    from_s: NotNegative
    to_s: Positive
    factor: Positive

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.to_s <= self.from_s:
            raise ValueError("to_s has to be after from_s")
        return self


class WorkloadSection(_Section):
    requests_s: Positive
    duration_s: Positive
    lengths: LengthsSection
    output_tokens: Annotated[float, Field(ge=1)]
    cv: NotNegative = 1
    output_cv: NotNegative = 0
    drift: DriftSection | None = None
    prefixes: PrefixesSection | None = None

    def arrivals(self, seed: int) -> Synthetic:
        drift, prefixes = self.drift, self.prefixes
        return Synthetic(
            self.requests_s,
            self.duration_s,
            self.lengths.lengths(),
            self.output_tokens,
            seed,
            self.cv,
            self.output_cv,
            ramp(drift.from_s, drift.to_s, drift.factor) if drift else constant,
            self.lengths.max_tokens,
            Prefixes(prefixes.share, prefixes.groups) if prefixes else None,
        )


class TraceSection(_Section):
    path: Name
    speed: Positive = 1
    repeat: Count = 1
    max_tokens: Count = 131_072


class SloSection(_Section):
    first_token_s: Positive
    token_s: Positive


class EventSection(_Section):
    at_s: NotNegative
    kind: Literal["bandwidth", "link_down", "link_up", "site_down", "site_up", "engine_down", "engine_up"]
    target: Name
    gbps: NotNegative | None = None

    @model_validator(mode="after")
    def _has_bandwidth(self) -> Self:
        if (self.kind == "bandwidth") != (self.gbps is not None):
            raise ValueError("gbps belongs to kind bandwidth, and has to be there")
        return self


class ScenarioFile(_Section):
    """The file as a whole."""

    name: Name = "scenario"
    site: Name
    engines: Annotated[list[EngineGroup], Field(min_length=1, max_length=1000)]
    links: Annotated[list[LinkSection], Field(max_length=1000)] = []
    workload: WorkloadSection | None = None
    trace: TraceSection | None = None
    slo: SloSection
    events: Annotated[list[EventSection], Field(max_length=10_000)] = []
    policies: Annotated[list[Contestant], Field(min_length=1)] = list(CONTESTANTS)
    threshold_tokens: Tokens | None = None
    prefill_engines: Annotated[int, Field(ge=0)] | None = None
    seeds: Annotated[list[Tokens], Field(min_length=1, max_length=MAX_SEEDS)] = [0]
    detection_s: NotNegative = 2
    conversion_s: NotNegative = 0
    max_waiting: Count = 4096

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.workload is None) == (self.trace is None):
            raise ValueError("needs either a workload or a trace")
        return self


@dataclass(frozen=True, slots=True)
class Study:
    """A file's content.

    Attributes:
        scenarios: one a seed. A trace is the same under every seed, so there is one.
        expected: requests in a run, about; None when nobody knows.
    """

    scenarios: tuple[Scenario, ...]
    contestants: tuple[Contestant, ...]
    given: Given
    expected: int | None


def load_scenario(path: str | Path) -> Study:
    """Read a scenario. Raises ConfigError that names the file, the key and what is wrong."""
    path = Path(path)
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML or JSON: {' '.join(str(error).split())}") from None
    try:
        return parse_scenario(tree, path.parent)
    except ConfigError as error:
        raise ConfigError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from None


def parse_scenario(tree: Any, folder: Path) -> Study:
    """Check a tree of plain values. Raises ConfigError with one line for each thing that is wrong."""
    try:
        file = ScenarioFile.model_validate(tree)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, each['loc'])) or 'scenario'}: {each['msg']}" for each in error.errors()]
        raise ConfigError("\n".join(lines)) from None
    fleet = FleetSpec(
        file.site,
        tuple(spec for group in file.engines for spec in group.specs(folder)),
        tuple(LinkSpec(link.source, link.gbps * GBIT_BYTES, link.rtt_ms / 1000) for link in file.links),
    )
    workload, seeds = file.workload, file.seeds if file.workload else file.seeds[:1]
    return Study(
        tuple(_scenario(file, fleet, folder, seed) for seed in seeds),
        tuple(file.policies),
        Given(file.threshold_tokens, file.prefill_engines),
        round(workload.requests_s * workload.duration_s) if workload else None,
    )


def _scenario(file: ScenarioFile, fleet: FleetSpec, folder: Path, seed: int) -> Scenario:
    arrivals: Synthetic | Trace
    if file.workload is not None:
        arrivals = file.workload.arrivals(seed)
    else:
        assert file.trace is not None
        arrivals = Trace(folder / file.trace.path, file.trace.speed, file.trace.repeat, file.trace.max_tokens)
    return Scenario(
        file.name,
        fleet,
        arrivals,
        Promise(file.slo.first_token_s, file.slo.token_s),
        tuple(Change(each.at_s, each.kind, each.target, (each.gbps or 0.0) * GBIT_BYTES) for each in file.events),
        detection_s=file.detection_s,
        conversion_s=file.conversion_s,
        max_waiting=file.max_waiting,
    )
