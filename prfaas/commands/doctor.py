"""`prfaas doctor`: what stands in a site's way, before there is traffic. Heavy imports happen inside."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import ssl

    from prfaas.config import Config
    from prfaas.doctor.checks import Use

ConfigPath = Annotated[Path, typer.Option("--config", "-c", help="The YAML file.", metavar="FILE")]
SiteName = Annotated[
    str | None, typer.Option("--site", help="The site of this machine; without it the gateway's.", metavar="SITE")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Measure = Annotated[bool, typer.Option("--probe/--no-probe", help="Measure links, with noise for two seconds each.")]
Strict = Annotated[bool, typer.Option("--strict", help="Warnings count as problems, for a scheduled look.")]


def doctor(
    config: ConfigPath, site: SiteName = None, as_json: AsJson = False, probe: Measure = True, strict: Strict = False
) -> None:
    """Look at a site before there is traffic, and say what is wrong, why it matters and what to type.

    Example: prfaas doctor --config prfaas.yaml --site cloud

    Run it on a machine of the site, as the user who runs the servers there. Exit codes: 0 nothing but warnings and
    notes, 1 problems, 2 the configuration cannot be used.
    """
    import asyncio
    import json
    import os
    import sys

    from rich.console import Console

    from prfaas.clock import MonotonicClock
    from prfaas.config import load_config
    from prfaas.doctor.checks import checks_of, wrong
    from prfaas.doctor.report import document, is_fine, show
    from prfaas.doctor.run import Outcome, run_checks
    from prfaas.doctor.scope import Scope
    from prfaas.errors import ConfigError
    from prfaas.transport.probe import ProbeOrder

    try:
        loaded = load_config(config, os.environ)
        scope = Scope(loaded, _site(loaded, site))
        checks = checks_of(scope, *_at_start(loaded, scope.site), ProbeOrder() if probe else None)
        name, code, outcomes = scope.site, 1, asyncio.run(run_checks(checks, MonotonicClock()))
    except ConfigError as error:
        name, code, outcomes = site or "", 2, [Outcome("configuration", wrong("config.wrong", str(error)), 0.0)]
    if as_json:
        print(json.dumps(document(name, outcomes, is_strict=strict), indent=2))
    else:
        show(Console(highlight=False, soft_wrap=True), name, outcomes)
    if not is_fine(outcomes, is_strict=strict):
        sys.exit(code)


def _site(config: "Config", site: str | None) -> str:
    from prfaas.errors import ConfigError

    if site is not None and site not in config.sites:
        raise ConfigError(f"--site: {site!r}: no such site (known: {', '.join(sorted(config.sites))})")
    return site or config.gateway.site


def _at_start(config: "Config", site: str) -> "tuple[ssl.SSLContext | None, list[Use]]":
    """Whom to trust of engines that are https, and what the site's servers read when they start."""
    import os

    from prfaas.config import TlsConfig
    from prfaas.doctor.checks import check_model_path
    from prfaas.errors import ConfigError
    from prfaas.gateway.access.tenants import load_tenants
    from prfaas.gateway.control.make import controller_of
    from prfaas.gateway.operator_key import read_key
    from prfaas.gateway.operator_state import OperatorStore
    from prfaas.gateway.upstream import tls_context

    ours, gateway = config.sites[site].tls, config.gateway
    try:
        tls = tls_context(ours if isinstance(ours, TlsConfig) else None)
    except ConfigError:  # the check of the certificates says it better
        tls = None
    files: list[Use] = [partial(check_model_path, config)]
    if site == gateway.site:
        files += [partial(controller_of, config), partial(load_tenants, config, os.environ)]
        if gateway.operator_key_file:
            files.append(partial(read_key, Path(gateway.operator_key_file)))
        if gateway.state_file:
            files.append(OperatorStore(Path(gateway.state_file)).read)
    return tls, files
