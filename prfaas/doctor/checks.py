"""All checks of a site, with their deadlines."""

import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from prfaas.config import Config
from prfaas.doctor.asking import ASK_S
from prfaas.doctor.certificates import check_certificates
from prfaas.doctor.engines import check_engines
from prfaas.doctor.finding import Checked, finding, merged
from prfaas.doctor.links import check_links
from prfaas.doctor.machine import check_disks, check_files, check_gpus, written_folders
from prfaas.doctor.network import CONNECT_S
from prfaas.doctor.ports import check_names, check_ports
from prfaas.doctor.run import Check, off_loop
from prfaas.doctor.scope import Scope
from prfaas.errors import ConfigError
from prfaas.transport.noise import JOIN_WAIT_S
from prfaas.transport.probe import DESCRIBE_TIMEOUT_S, ProbeOrder

QUICK_S = 10.0
"""Of what is on this machine: a disk or a driver that takes longer hangs."""
ASKING_S = 25.0
"""Of what is asked of others: dialing a port, asking HTTP and mover, 5 s each, and names to be looked up."""
PROBE_SLACK_S = ASK_S + CONNECT_S + DESCRIBE_TIMEOUT_S + JOIN_WAIT_S + 5.0
"""Of measuring a link, beyond the noise itself: its engines are asked, one is dialed to see the path's MTU, the probe's
handshake, the wait for its connections, and some seconds for the end of what is under way."""

Use = Callable[[], object]
"""Uses a file that the configuration names, as a server would at its start; raises ConfigError."""


def checks_of(
    scope: Scope, tls: ssl.SSLContext | None, files: Sequence[Use], order: ProbeOrder | None, nvml: Any | None = None
) -> list[Check]:
    """``tls`` is whom to trust of engines that are https; without an ``order`` no link is measured."""
    checks = [
        Check("configuration", QUICK_S, off_loop(check_used_files, files)),
        Check("certificates", QUICK_S, off_loop(check_certificates, scope)),
        Check("machine", QUICK_S, off_loop(_check_machine, scope)),
        Check("gpus", QUICK_S, lambda: check_gpus(scope, nvml)),
        Check("names", QUICK_S, lambda: check_names(scope)),
        Check("ports", ASKING_S, lambda: check_ports(scope)),
        Check("engines", ASKING_S, lambda: check_engines(scope, tls)),
    ]
    if order is not None and scope.links:
        deadline_s = len(scope.links) * (order.duration_s + PROBE_SLACK_S)
        checks.append(Check("links", deadline_s, lambda: check_links(scope, order)))
    return checks


def check_used_files(files: Sequence[Use]) -> Checked:
    """Whether every file can be used."""
    findings = []
    for use in files:
        try:
            use()
        except ConfigError as error:
            findings += list(wrong("config.file", str(error)).findings)
    return Checked(tuple(findings), (f"read, with {len(files)} files that it names",))


def check_model_path(config: Config) -> None:
    """Whether the model's folder is here, where it is one and no name on the Hub. Raises ConfigError."""
    path = Path(config.model.path).expanduser()
    if config.model.path.startswith(("/", ".", "~")) and not path.exists():
        raise ConfigError(f"model.path: {config.model.path!r}: is not here: tokenizer and weights are read from it")


def wrong(code: str, text: str) -> Checked:
    """The lines of a ConfigError as findings: key, problem, and mostly the way out."""
    parts = [line.partition(": ") for line in text.splitlines()]
    return Checked(
        tuple(
            finding(code, where, what or where, "correct it; prfaas config schema has all keys")
            for where, _, what in parts
        )
    )


def _check_machine(scope: Scope) -> Checked:
    return merged((check_disks(written_folders(scope)), check_files(scope)))
