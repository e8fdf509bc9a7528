"""`prfaas plan`: how to divide a fleet, and what to buy next. Heavy imports happen inside."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from prfaas.errors import EngineUnavailable

FileArgument = Annotated[
    Path | None,
    typer.Argument(help="Fleet, link, workload and objectives, in YAML.", metavar="FILE", show_default=False),
]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="Write plan.json, report.html and pictures here.", metavar="FOLDER")
]
Trace = Annotated[
    Path | None, typer.Option("--trace", help="Plan for this trace, JSON lines as Mooncake's.", metavar="FILE")
]
LocalProfile = Annotated[
    str | None, typer.Option("--local-profile", help="A profile's file or name.", metavar="PROFILE")
]
RemoteProfile = Annotated[
    str | None, typer.Option("--remote-profile", help="A profile's file or name.", metavar="PROFILE")
]
LocalEngines = Annotated[int | None, typer.Option("--local-engines", help="How many prefill or decode.")]
RemoteEngines = Annotated[int | None, typer.Option("--remote-engines", help="How many prefill remotely.")]
BandwidthGbps = Annotated[
    float | None, typer.Option("--bandwidth-gbps", help="From the remote site, Gbit/s; 0 for no link.")
]
TokenSloMs = Annotated[float | None, typer.Option("--token-slo-ms", help="Most milliseconds between two tokens.")]
FirstTokenP90S = Annotated[
    float | None, typer.Option("--first-token-p90-s", help="Most seconds of nine in ten prefills, nothing waiting.")
]
AveragingOption = Annotated[
    Literal["mean_length", "each_length"] | None,
    typer.Option("--averaging", help="Prefill of the mean length, as the paper has it, or the mean prefill."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print plan.json instead of tables.")]
AsSchema = Annotated[bool, typer.Option("--schema", help="Print the JSON schema of FILE, for editors.")]


def plan(
    file: FileArgument = None,
    out: Out = None,
    trace: Trace = None,
    local_profile: LocalProfile = None,
    local_engines: LocalEngines = None,
    remote_profile: RemoteProfile = None,
    remote_engines: RemoteEngines = None,
    bandwidth_gbps: BandwidthGbps = None,
    token_slo_ms: TokenSloMs = None,
    first_token_p90_s: FirstTokenP90S = None,
    averaging: AveragingOption = None,
    as_json: AsJson = False,
    as_schema: AsSchema = False,
) -> None:
    """Plan a fleet: from which length on to prefill remotely, how many engines prefill, and what to buy next.

    Example: prfaas plan deploy/plan/case_study.yaml --out report

    Options take the place of what FILE says; with enough of them no FILE is needed.
    """
    import json

    from prfaas.commands.planning.plan_file import PlanFile

    if as_schema:
        print(json.dumps(PlanFile.model_json_schema(), indent=2))
        return
    options = {
        "fleet.local.profile": _profile_for(file, local_profile),
        "fleet.local.engines": local_engines,
        "fleet.remote.profile": _profile_for(file, remote_profile),
        "fleet.remote.engines": remote_engines,
        "link.bandwidth_gbps": bandwidth_gbps,
        "workload.trace": _from_file(file, trace),
        "slo.token_ms": token_slo_ms,
        "slo.first_token_p90_s": first_token_p90_s,
        "averaging": averaging,
    }
    _plan(file, options, out, as_json)


def _plan(path: Path | None, options: dict[str, Any], out: Path | None, as_json: bool) -> None:
    import json

    from rich.console import Console

    from prfaas.commands.planning.document import document
    from prfaas.commands.planning.plan_file import overridden, parse_plan_file
    from prfaas.commands.planning.scenario import load_scenario
    from prfaas.commands.planning.table import show
    from prfaas.config.load import read_tree
    from prfaas.planner.study import study

    if out is not None:
        _require_matplotlib()
    tree = read_tree(path, "fleet, link, workload and slo") if path else {}
    scenario = load_scenario(parse_plan_file(overridden(tree, options)), path.parent if path else Path())
    found = study(scenario.question)
    told = json.dumps(document(scenario, found), indent=2, allow_nan=False)
    if as_json:
        print(told)
    else:
        show(Console(highlight=False), scenario, found)
    if out is not None:
        from prfaas.commands.planning.folder import write

        report = write(out, told, scenario, found)
        Console(stderr=True, highlight=False).print(f"report: {report}", soft_wrap=True, markup=False)


def _from_file(file: Path | None, path: str | Path | None) -> str | None:
    """A path on the command line begins where the program runs; as it would stand in the file, it begins there."""
    import os

    if path is None or Path(path).is_absolute():
        return str(path) if path else None
    return os.path.relpath(path, file.parent if file else None)


def _profile_for(file: Path | None, profile: str | None) -> str | None:
    from prfaas.planner.built_in import built_in_profiles

    return profile if profile in built_in_profiles() else _from_file(file, profile)


def _require_matplotlib() -> None:
    """Before a long trace is read for nothing."""
    import importlib.util

    if importlib.util.find_spec("matplotlib") is None:
        raise EngineUnavailable("--out draws pictures with matplotlib: pip install 'prfaas[plan]'")
