"""``prfaas engine``: becomes one vLLM engine of the configuration."""

import json
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from prfaas.commands.names import engine_names, site_names
from prfaas.commands.options import ConfigPath, VllmArgs, load
from prfaas.commands.vllm import require_vllm

CACHE_SPACE, CACHE_GIB = "VLLM_CPU_KVCACHE_SPACE", "4"
"""Memory for the cache of an engine without a GPU. Untold, vLLM wants 92 % of the machine's, and does not start where
anything else has more than the rest."""


def engine(
    config: ConfigPath,
    site: Annotated[str | None, typer.Option("--site", help="The engine's site.", autocompletion=site_names)] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", help="The engine, if the site has several.", autocompletion=engine_names),
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Print the command instead of running it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --show: arguments and environment as JSON.")] = False,
    vllm_args: VllmArgs = None,
) -> None:
    """Run one vLLM engine of the configuration.

    Example: prfaas engine --config prfaas.yaml --site cloud -- --max-num-batched-tokens 2048
    """
    import shlex

    from prfaas.launch.engine_command import engine_command, select_engine

    loaded = load(config)
    selected = select_engine(loaded, site, name)
    command = engine_command(loaded, selected, vllm_args or ())
    env = {**_cache_space(vllm_args or ()), **command.env}
    if show and as_json:
        print(json.dumps({"argv": list(command.argv), "env": env}, indent=2))
        return
    if show:
        print(shlex.join((*(f"{key}={value}" for key, value in env.items()), *command.argv)))
        return
    require_vllm()
    from prfaas.doctor.scope import Scope
    from prfaas.doctor.start import engine_findings, refuse_or_warn

    findings = engine_findings(Scope(loaded, loaded.engines[selected].site), selected, vllm_args or ())
    refuse_or_warn(findings, lambda line: print(f"prfaas: warning: {line}", file=sys.stderr, flush=True))
    os.execvpe(command.argv[0], command.argv, {**os.environ, **env})


def _cache_space(vllm_args: Sequence[str]) -> dict[str, str]:
    """How much memory the cache gets where the operator says nothing of it, in the environment or to vLLM."""
    from prfaas.doctor.support import option_name

    told = set(map(option_name, vllm_args)) & {"--gpu-memory-utilization", "--kv-cache-memory-bytes"}
    return {} if told or CACHE_SPACE in os.environ else {CACHE_SPACE: CACHE_GIB}
