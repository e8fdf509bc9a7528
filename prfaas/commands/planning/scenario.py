"""From the file to what the planner is asked; profiles and the trace are read here."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prfaas.commands.planning.plan_file import PlanFile, WorkloadSection
from prfaas.commands.planning.reading import summarise_file
from prfaas.errors import ConfigError
from prfaas.planner.built_in import find_profile
from prfaas.planner.hardware import Hardware
from prfaas.planner.log_normal import LogNormalLengths
from prfaas.planner.profile import EngineProfile
from prfaas.planner.study import Question
from prfaas.planner.trace_summary import TraceSummary
from prfaas.planner.workload import Slo, Workload

GBIT_BYTES = 1e9 / 8


@dataclass(frozen=True, slots=True)
class Scenario:
    """A question, and where it comes from.

    Attributes:
        file: as it was checked, options included.
        trace: what the workload's trace amounts to; None for a distribution.
    """

    file: PlanFile
    question: Question
    trace: TraceSummary | None = None


def load_scenario(file: PlanFile, folder: Path) -> Scenario:
    """Read profiles and trace; the file's relative paths begin at ``folder``.

    Raises:
        ConfigError: what is wrong with any of them, with the key that names it.
    """
    hardware, slo = _hardware(file, folder), Slo(file.slo.token_ms / 1000, file.slo.first_token_p90_s)
    assert hardware.local.decode is not None
    with _under("slo.token_ms"):
        hardware.local.decode.operating_point(slo.token_s)
    with _under("workload"):
        workload, trace = _workload(file.workload, folder)
    for key, profile in (("local", hardware.local), ("remote", hardware.remote if hardware.has_remote else None)):
        if profile is not None:
            with _under(f"fleet.{key}.profile: {profile.name}"):
                _check_reach(profile, workload)
    return Scenario(file, Question(hardware, workload, slo, file.averaging), trace)


def _hardware(file: PlanFile, folder: Path) -> Hardware:
    local, remote = file.fleet.local, file.fleet.remote
    with _under("fleet.local.profile"):
        local_profile = find_profile(local.profile, folder)
    remote_profile: EngineProfile | None = None
    if remote is not None:
        with _under("fleet.remote.profile"):
            remote_profile = find_profile(remote.profile, folder)
    with _under("fleet"):
        return Hardware(
            local_profile,
            local.engines,
            remote_profile,
            remote.engines if remote else 0,
            file.link.bandwidth_gbps * GBIT_BYTES,
        )


def _workload(section: WorkloadSection, folder: Path) -> tuple[Workload, TraceSummary | None]:
    if section.log_normal is not None:
        assert section.output_tokens is not None
        given = section.log_normal
        lengths = LogNormalLengths(given.mu, given.sigma, given.min_tokens, given.max_tokens)
        return Workload(lengths, section.output_tokens), None
    assert section.trace is not None
    trace = summarise_file(
        Path(os.path.normpath(folder / section.trace)), section.block_tokens, section.prefix_cache_blocks
    )
    return Workload(trace.uncached, section.output_tokens or trace.output_tokens), trace


def _check_reach(profile: EngineProfile, workload: Workload) -> None:
    """Here, where it is known whose profile is too short."""
    longest = np.array([workload.lengths.max_tokens])
    profile.prefill.at(longest)
    profile.cache.at(longest)


@contextlib.contextmanager
def _under(key: str) -> Iterator[None]:
    """Errors in here name the key that they come from."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError("\n".join(f"{key}: {line}" for line in str(error).splitlines())) from None
