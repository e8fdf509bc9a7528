"""The command line: which commands there are, and how they end. Each is a module of ``prfaas.commands``."""

import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

import typer

from prfaas.commands.bench import bench
from prfaas.commands.certs import certs
from prfaas.commands.config import config
from prfaas.commands.decisions import decisions
from prfaas.commands.demo import demo, up
from prfaas.commands.doctor import doctor
from prfaas.commands.drain import drain, undrain
from prfaas.commands.engine import engine
from prfaas.commands.exits import EPILOG, FAILED, FINE, INTERRUPTED, exit_code_of
from prfaas.commands.flip import flip
from prfaas.commands.gateway import gateway
from prfaas.commands.link import link
from prfaas.commands.options import OPERATE, PLAN, RUN, SET_UP
from prfaas.commands.plan import plan
from prfaas.commands.profile import profile
from prfaas.commands.reload import reload
from prfaas.commands.simulate import simulate
from prfaas.commands.status import status
from prfaas.commands.top import top
from prfaas.commands.version import version
from prfaas.errors import ConfigError, PrfaasError

app = typer.Typer(
    name="prfaas",
    help="LLM serving whose prefill can happen in another data center: vLLM engines in several sites behind one "
    "OpenAI-compatible gateway.",
    epilog=f"To see it work on this machine: prfaas demo. A configuration to start from: deploy/local/prfaas.yaml. "
    f"{EPILOG}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS: Sequence[tuple[str, Callable[..., object]]] = (
    *((RUN, each) for each in (gateway, engine, demo, up)),
    *((OPERATE, each) for each in (status, top, decisions, drain, undrain, flip, reload)),
    *((PLAN, each) for each in (plan, profile, simulate, bench)),
    *((SET_UP, each) for each in (certs, doctor, version)),
)
for panel, command in COMMANDS:
    app.command(rich_help_panel=panel)(command)
app.add_typer(link, rich_help_panel=OPERATE)
app.add_typer(config, rich_help_panel=SET_UP)


def main() -> NoReturn:
    """Run the command line: errors of ours in one line each, with the exit codes of ``prfaas.commands.exits``."""
    try:
        app()
    except PrfaasError as error:
        _tell(error)
        sys.exit(exit_code_of(error))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except SystemExit as ended:
        sys.exit(ended.code if _is_read() else FAILED)
    sys.exit(FINE)


def _tell(error: PrfaasError) -> None:
    prefix = "config: " if isinstance(error, ConfigError) else ""
    for line in str(error).splitlines():
        indented = line.startswith(" ")
        print(line if indented else f"prfaas: {prefix}{line}", file=sys.stderr)


def _is_read() -> bool:
    """Whether whoever reads the output is still there; found out here, or Python would complain at its end."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stdout = None  # as Python has it where there is no output
        return False
    return True


if __name__ == "__main__":
    main()
