"""`prfaas simulate`: policies side by side in a scenario. Heavy imports happen inside."""

from pathlib import Path
from typing import Annotated

import typer

FileArgument = Annotated[Path, typer.Argument(help="Fleet, workload, events and promises, in YAML.", metavar="FILE")]
PolicyOption = Annotated[
    list[str] | None, typer.Option("--policy", help="Only this one of the file's policies; may be repeated.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print every figure as JSON instead of a table.")]


def simulate(file: FileArgument, policy: PolicyOption = None, as_json: AsJson = False) -> None:
    """Compare policies on a simulated fleet: the gateway's own router and controller, on a virtual clock.

    Example: prfaas simulate deploy/simulate/case_study.yaml
    """
    from prfaas.commands.simulating import run_simulation

    run_simulation(file, policy or [], is_json=as_json)
