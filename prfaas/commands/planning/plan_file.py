"""The file of `prfaas plan`: fleet, link, workload and objectives, checked as the configuration is."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from prfaas.config.base import FilePath, Section
from prfaas.config.problems import describe
from prfaas.errors import ConfigError
from prfaas.planner.hardware import MAX_ENGINES
from prfaas.planner.trace import BLOCK_TOKENS, MAX_PROMPT_TOKENS
from prfaas.planner.trace_summary import CACHE_BLOCKS

OPTIONS = {
    "fleet.local.profile": "--local-profile",
    "fleet.local.engines": "--local-engines",
    "fleet.remote.profile": "--remote-profile",
    "fleet.remote.engines": "--remote-engines",
    "link.bandwidth_gbps": "--bandwidth-gbps",
    "workload.trace": "--trace",
    "slo.token_ms": "--token-slo-ms",
    "slo.first_token_p90_s": "--first-token-p90-s",
    "averaging": "--averaging",
}
"""Key of the file -> the option that overrides it."""
REQUIRED = ("fleet.local.profile", "fleet.local.engines", "workload.trace", "slo.token_ms")
MAX_GBPS = 1e6
"""A petabit a second; a larger figure is in bits."""
SLOWEST_GBPS = 1e-3
"""Nobody sends caches over less; see ``Hardware``."""
MAX_CACHE_BLOCKS = 50_000_000
"""Some GB of ids."""

Profile = Annotated[FilePath, Field(description="A profile's file, or a built-in profile's name such as paper_h20.")]
LengthTokens = Annotated[float, Field(ge=1, le=MAX_PROMPT_TOKENS)]


class LocalSection(Section):
    """The local site's engines, each of which either prefills or decodes."""

    profile: Profile
    engines: Annotated[int, Field(ge=1, le=MAX_ENGINES)]


class RemoteSection(Section):
    """The remote site's engines, which only prefill."""

    profile: Profile
    engines: Annotated[int, Field(ge=0, le=MAX_ENGINES)]


class FleetSection(Section):
    local: LocalSection
    remote: RemoteSection | None = None


class LinkSection(Section):
    """What leaves the remote site at most."""

    bandwidth_gbps: Annotated[float, Field(ge=0, description="In Gbit/s; 0 when there is no link.")] = 0

    @field_validator("bandwidth_gbps")
    @classmethod
    def _in_gbps(cls, value: float) -> float:
        if 0 < value < SLOWEST_GBPS:
            raise ValueError("carries no caches: the unit is Gbit/s; 0 for no link")
        if value > MAX_GBPS:
            raise ValueError("no link has that: the unit is Gbit/s, not bit/s or Mbit/s")
        return value


class LogNormalSection(Section):
    """ln L is normal; only lengths within the bounds occur."""

    mu: Annotated[float, Field(description="Natural logarithm of the median.")]
    sigma: Annotated[float, Field(gt=0)]
    min_tokens: LengthTokens
    max_tokens: LengthTokens


class WorkloadSection(Section):
    """Requests: a distribution of uncached lengths, or a trace in Mooncake's format."""

    log_normal: LogNormalSection | None = None
    trace: Annotated[FilePath | None, Field(description="JSON lines; see docs/planning.md.")] = None
    output_tokens: Annotated[
        float | None, Field(ge=1, description="Mean of an answer's tokens; a trace has its own.")
    ] = None
    block_tokens: Annotated[int, Field(ge=1, description="Tokens of a block of the trace's hash_ids.")] = BLOCK_TOKENS
    prefix_cache_blocks: Annotated[
        int, Field(ge=0, le=MAX_CACHE_BLOCKS, description="Blocks that a site keeps; 0 plans without hits.")
    ] = CACHE_BLOCKS

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.log_normal is None) == (self.trace is None):
            raise ValueError("needs either log_normal or a trace (--trace)")
        if self.log_normal is not None and self.output_tokens is None:
            raise ValueError("log_normal says nothing of answers: give output_tokens, their mean")
        return self


class SloSection(Section):
    """What users are promised."""

    token_ms: Annotated[float, Field(gt=0, description="Most milliseconds between two tokens of an answer.")]
    first_token_p90_s: Annotated[
        float | None, Field(gt=0, description="Most seconds of nine in ten prefills with nothing waiting.")
    ] = None


class PlanFile(Section):
    """The file as a whole."""

    title: Annotated[str, Field(min_length=1, max_length=200)] = "Plan of a fleet"
    fleet: FleetSection
    link: LinkSection = LinkSection()
    workload: WorkloadSection
    slo: SloSection
    averaging: Annotated[
        Literal["mean_length", "each_length"],
        Field(description="Prefill of the mean length, as the paper has it, or the mean prefill."),
    ] = "mean_length"


def overridden(tree: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The file's tree with the options' values, by key path, in their place; None leaves the file's.

    Raises:
        ConfigError: where an option's section ought to be, the file has something else.
    """
    found = dict(tree)
    given = {path: value for path, value in options.items() if value is not None}
    for path, value in given.items():
        node: dict[str, Any] = found
        *sections, last = path.split(".")
        for at, section in enumerate(sections):
            child = node.get(section) or {}
            if not isinstance(child, Mapping):
                raise ConfigError(f"{'.'.join(sections[: at + 1])}: {child!r}: expected keys and values")
            node[section] = dict(child)
            node = node[section]
        node[last] = value
    if "workload.trace" in given:
        # A trace brings its own lengths; what the file says of answers was said of other requests.
        found["workload"] = {key: each for key, each in found["workload"].items() if key not in _OF_DISTRIBUTION}
    return found


_OF_DISTRIBUTION = ("log_normal", "output_tokens")


def parse_plan_file(tree: Mapping[str, Any]) -> PlanFile:
    """Check a tree of plain values. Raises ConfigError with one line for each thing that is wrong."""
    try:
        return PlanFile.model_validate(tree)
    except ValidationError as error:
        lines = [describe(item, PlanFile) for item in error.errors()]
        raise ConfigError("\n".join(map(_with_option, lines))) from None


def _with_option(line: str) -> str:
    """A key that is missing may also be given as an option."""
    path, _, problem = line.partition(": ")
    keys = [key for key in REQUIRED if key == path or key.startswith(f"{path}.")]
    missing = [OPTIONS[key] for key in keys] or [OPTIONS[path]] if path in OPTIONS or keys else []
    return (
        f"{line}: give it in the file or with {' and '.join(missing)}" if problem == "is missing" and missing else line
    )
