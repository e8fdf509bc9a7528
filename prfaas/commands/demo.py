"""``prfaas demo`` and ``prfaas up``: both sites on this machine, without a GPU."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from prfaas.commands.options import Folder
from prfaas.commands.vllm import require_vllm
from prfaas.errors import EngineUnavailable


def demo(folder: Folder = Path(".prfaas")) -> None:
    """Show a remote prefill on this machine, without a GPU.

    Starts two engines and the gateway, asks short and long questions, compares every answer with that of one engine
    alone, and stops everything. The last line is JSON; the exit code is 0 when all answers were exact.
    """
    from prfaas.launch.signals import run_until_signal

    require_vllm()
    try:
        from prfaas.launch.demo.run import run_demo
    except ModuleNotFoundError as error:
        raise EngineUnavailable(f"the demo needs {error.name}: pip install 'prfaas[cpu,demo]'") from None
    sys.exit(run_until_signal(lambda: run_demo(folder.resolve())))


def up(
    folder: Folder = Path(".prfaas"),
    port: Annotated[int, typer.Option(help="For the gateway; another one is taken if it is busy.")] = 8000,
) -> None:
    """Run the demo's stack until Ctrl-C, and say how to use it."""
    from prfaas.launch.signals import run_until_signal
    from prfaas.launch.up import run_up

    require_vllm()
    sys.exit(run_until_signal(lambda: run_up(folder.resolve(), port)))
