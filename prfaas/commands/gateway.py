"""``prfaas gateway``: wires the gateway together and runs it. Heavy imports happen inside."""

import os
import resource
import sys
from typing import Annotated

import typer

from prfaas.commands.options import ConfigPath, load
from prfaas.config import Config, tls_settings

MOST_FILES = 1 << 16
"""More than one process can serve."""


def gateway(
    config: ConfigPath,
    worker: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run the gateway.

    Example: prfaas gateway --config prfaas.yaml
    """
    import logging

    from prfaas.observe.logs import configure
    from prfaas.observe.settings import LogSettings

    loaded = load(config)
    configure(LogSettings(**loaded.observe.log_fields(site=loaded.gateway.site)))
    _raise_file_limit()
    if worker is None:
        from prfaas.doctor.scope import Scope
        from prfaas.doctor.start import gateway_findings, refuse_or_warn

        refuse_or_warn(gateway_findings(Scope(loaded, loaded.gateway.site)), logging.getLogger("prfaas").warning)
    if loaded.gateway.workers > 1 and worker is None:
        from prfaas.gateway.workers import supervise

        sys.exit(supervise(loaded, [sys.executable, "-m", "prfaas.cli", "gateway", "--config", str(config)]))

    import msgspec

    from prfaas.gateway.control.make import controller_of
    from prfaas.gateway.live import ConfigSource
    from prfaas.gateway.serve import Inherited, serve
    from prfaas.transport.report import ReportClient
    from prfaas.transport.settings import TlsSettings

    def reports(config: Config) -> ReportClient:
        tls = tls_settings(config, config.gateway.site)
        return ReportClient(msgspec.convert(tls, TlsSettings) if tls else None)

    def again() -> Config:
        fresh = load(config)
        controller_of(fresh)  # profiles are files of their own: a wrong one refuses the reload, too
        return fresh

    source = ConfigSource(again, reports, os.environ)
    serve(loaded, reports(loaded), source, Inherited.parse(worker) if worker else None)


def _raise_file_limit() -> None:
    """A running request takes up to three open files, and shells allow 1,024 where the system allows far more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
