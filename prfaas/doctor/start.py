"""What stops a start, said in one line each before anything runs that would say it later, or in a stack trace."""

import errno
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from prfaas.config import TlsConfig
from prfaas.doctor.certificates import judge_dates, judge_site, read_certificate, read_site
from prfaas.doctor.finding import Finding, Level, finding
from prfaas.doctor.machine import (
    Space,
    check_disks,
    engine_folders,
    gateway_folders,
    has_gpu_build,
    judge_gpus,
    load_nvml,
    read_gpus,
    space_of,
    wanted_gpus,
)
from prfaas.doctor.network import listening_error
from prfaas.doctor.ports import judge_port
from prfaas.doctor.report import one_line
from prfaas.doctor.scope import Listener, Scope
from prfaas.doctor.support import judge_support, option_name
from prfaas.errors import ConfigError

MENDED_WHILE_RUNNING = frozenset({"certificates.expired", "certificates.early", "machine.state_disk"})
"""Problems that do not stop a start: new files are taken over as they come, as is room on a disk; until then prompts
are served here. A disk fills up unseen, and a host that comes back has to serve."""


def gateway_findings(
    scope: Scope, space: Callable[[str], Space] = space_of, now_s: float | None = None
) -> list[Finding]:
    """Of a gateway that is about to start; its port is tried by listening on it."""
    return [*_certificates(scope, now_s), *check_disks(gateway_folders(scope.config), space).findings]


def engine_findings(
    scope: Scope,
    name: str,
    vllm_args: Sequence[str] = (),
    space: Callable[[str], Space] = space_of,
    nvml: Any | None = None,
    now_s: float | None = None,
) -> list[Finding]:
    """Of an engine that is about to start here; ports that vLLM's own arguments choose are not looked at."""
    return [
        *_certificates(scope, now_s),
        *(each for port in _ports(scope, name, vllm_args) for each in _port(port)),
        *check_disks(engine_folders(), space).findings,
        *_support(scope, name, vllm_args, nvml),
    ]


def refuse_or_warn(findings: Sequence[Finding], warn: Callable[[str], None]) -> None:
    """Tell ``warn`` what is not as it should be, a line each.

    Raises:
        ConfigError: what would stop the server, now or with its first transfer; a line each.
    """
    stopping = [each for each in findings if each.level is Level.PROBLEM and each.code not in MENDED_WHILE_RUNNING]
    for each in findings:
        if each not in stopping and each.level is not Level.NOTE:
            warn(one_line(each))
    if stopping:
        raise ConfigError("\n".join(map(one_line, stopping)))


def _certificates(scope: Scope, now_s: float | None) -> Iterator[Finding]:
    now_s = time.time() if now_s is None else now_s
    tls, https = scope.config.sites[scope.site].tls, scope.config.gateway.https
    if isinstance(tls, TlsConfig):
        try:
            yield from judge_site(scope.site, tls, read_site(tls), now_s)
        except ConfigError as error:
            raise ConfigError(f"sites.{scope.site}.{error}") from None
    if scope.is_gateways and https is not None:
        try:
            yield from judge_dates("gateway.https.cert", read_certificate(https.cert, https.key), now_s, "renew it")
        except ConfigError as error:
            raise ConfigError(f"gateway.https: {error}") from None


def _ports(scope: Scope, name: str, vllm_args: Sequence[str]) -> list[Listener]:
    given = _given(vllm_args)
    is_moved = bool(given & {"--host", "--port", "--uds"})
    is_other_connector = "--kv-transfer-config" in given
    return [
        port for port in scope.listeners_of(name) if not (is_moved if port.serves == "engine" else is_other_connector)
    ]


def _port(port: Listener) -> list[Finding]:
    try:
        ips = {str(address[0]) for *_, address in socket.getaddrinfo(port.host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):  # gaierror is an OSError; a label of more than 63 characters is no name
        what = f"{port.host}: is not resolved here"
        return [
            finding("names.unknown", port.key, what, "give an address of this machine, or a name that leads to one")
        ]
    number = listening_error(ips, port.port)
    return judge_port(port, errno.EADDRNOTAVAIL if number is None else number, is_ours=False)


def _given(vllm_args: Sequence[str]) -> set[str]:
    return set(map(option_name, vllm_args))


def _support(scope: Scope, name: str, vllm_args: Sequence[str], nvml: Any | None) -> list[Finding]:
    """What our connector refuses, not another one that vLLM is given; that GPUs are missing is said first."""
    engine, is_gpu_build = scope.config.engines[name], has_gpu_build()
    wanted = wanted_gpus(engine, is_gpu_build)
    nvml = nvml or load_nvml()
    gpus = read_gpus(nvml) if wanted and nvml else None
    if gpus is not None and len(gpus) < wanted:
        return list(judge_gpus({name: wanted}, gpus, is_running=True))
    if "--kv-transfer-config" in _given(vllm_args):
        return []
    return list(judge_support(name, engine, is_gpu_build, vllm_args))
