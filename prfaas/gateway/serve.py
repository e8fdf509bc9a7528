"""Running the gateway: one process, one event loop; of several, each is such a one."""

import asyncio
import gc
import logging
import os
import socket
import ssl
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import uvicorn

from prfaas.clock import MonotonicClock
from prfaas.config import Config, TlsConfig
from prfaas.errors import ConfigError
from prfaas.fleet.fleet import Fleet
from prfaas.fleet.prefix_index import PrefixIndex
from prfaas.gateway.access.head import BoundedHttp
from prfaas.gateway.access.visit import build_access
from prfaas.gateway.app import LOOPBACK, create_app
from prfaas.gateway.fleet_view import FleetView
from prfaas.gateway.listener import listen
from prfaas.gateway.live import ConfigSource
from prfaas.gateway.prefix_hits import PrefixHits
from prfaas.gateway.prompt.hf_tokenizer import load_tokenizer, torch_hidden
from prfaas.gateway.prompt.parity import CheckedTokenizer
from prfaas.gateway.services import GatewayServices, ReportSource
from prfaas.gateway.upstream import Upstream, tls_context
from prfaas.gateway.workers import METRICS_FOLDER
from prfaas.observe.metrics import Metrics
from prfaas.observe.settings import TraceSettings
from prfaas.observe.traces import open_tracer

FLUSH_S = 3.0
"""For the last spans, when the last answer has ended: whoever stops the gateway waits."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Inherited:
    """What a worker has of its supervisor: the listening socket, and the reading end of a pipe that closes with it."""

    listener: int
    pipe: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """From the argument that the supervisor gives. Raises ConfigError for one that it did not make."""
        try:
            listener, pipe = map(int, text.split(","))
        except ValueError:
            raise ConfigError(f"--worker: {text!r}: only the supervisor gives this; set gateway.workers") from None
        return cls(listener, pipe)


def serve(
    config: Config, reports: ReportSource, source: ConfigSource | None = None, inherited: Inherited | None = None
) -> None:
    """Serve until SIGINT or SIGTERM, or until the supervisor is gone; takes over ``reports`` and closes it. Reads
    ``source`` again on SIGHUP.

    Meant for a process of its own: it hides torch from the tokenizer library (see ``torch_hidden``).

    Raises:
        ConfigError: the tokenizer, a certificate or a key cannot be loaded, or the address cannot be listened on.
    """
    listener = socket.socket(fileno=inherited.listener) if inherited else listen(config)
    with listener:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # it warns that there is no torch, as intended
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # one text at a time: a pool of threads is a detour
        with torch_hidden():
            services = build_services(config, reports)
        gc.collect()
        gc.freeze()  # what is here now stays; going through all of it again would hold up every stream for tens of ms
        warn(config)
        # Where no supervisor has started this process the variable is from elsewhere, and there are no other workers.
        shared_folder = Path(os.environ[METRICS_FOLDER]) if inherited else None
        settings = server_settings(services, source, shared_folder)
        server = _Server(settings, inherited.pipe if inherited else None)
        # uvicorn stops gracefully and then raises the signal again; after Ctrl-C there is nothing left to do.
        with suppress(KeyboardInterrupt):
            try:
                server.run(sockets=[listener])
            finally:
                services.tracer.close(FLUSH_S)


def server_settings(
    services: GatewayServices, source: ConfigSource | None = None, shared_folder: Path | None = None
) -> uvicorn.Config:
    """How uvicorn is to run the gateway; ``shared_folder`` is that of several workers. Raises ConfigError when its
    certificate cannot be used."""
    gateway = services.config.gateway
    settings = uvicorn.Config(
        create_app(services, source, shared_folder),
        http=BoundedHttp,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=gateway.shutdown_grace_s,
        ssl_certfile=gateway.https.cert if gateway.https else None,
        ssl_keyfile=gateway.https.key if gateway.https else None,
    )
    try:
        settings.load()
    except OSError as error:  # SSLError is one
        raise ConfigError(f"gateway.https: its files cannot be used: {error.strerror or error}") from None
    return settings


def build_services(config: Config, reports: ReportSource) -> GatewayServices:
    """The gateway's collaborators as they are in production. Raises ConfigError when tokenizer, keys or traces are
    unusable."""
    clock = MonotonicClock()
    fleet = Fleet(config.engines, clock)
    metrics = Metrics(os.environ.get(METRICS_FOLDER))
    tracer = open_tracer(_traces(config), metrics.count_spans)
    return GatewayServices(
        config=config,
        tokenizer=CheckedTokenizer(load_tokenizer(config.model.path, config.model.max_model_len)),
        upstream=Upstream(
            {name: engine.url for name, engine in config.engines.items()},
            _tls_to_engines(config),
            max_requests=config.access.max_running,
        ),
        reports=reports,
        clock=clock,
        fleet=fleet,
        view=FleetView(config, fleet),
        prefixes=PrefixHits(PrefixIndex(), config.engines),
        metrics=metrics,
        access=build_access(config, os.environ, clock, metrics),
        started_unix_s=int(time.time()),
        tracer=tracer,
    )


class _Server(uvicorn.Server):
    """Stops also when the supervisor has gone."""

    def __init__(self, settings: uvicorn.Config, pipe: int | None) -> None:
        super().__init__(settings)
        self._pipe = pipe

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._pipe is not None:
            asyncio.get_running_loop().add_reader(self._pipe, self._supervisor_is_gone)

    def _supervisor_is_gone(self) -> None:
        assert self._pipe is not None
        asyncio.get_running_loop().remove_reader(self._pipe)
        self.should_exit = True


def warn(config: Config) -> None:
    """What an operator should know who lets others reach the gateway."""
    host = config.gateway.host
    if host in LOOPBACK or host == "localhost":
        return
    if not config.tenants:
        log.warning("gateway.host: %s: whoever reaches it may use it: no tenants are configured", host)
    elif config.gateway.https is None:
        log.warning("gateway.host: %s: keys and prompts arrive in plain text: give gateway.https", host)


def _tls_to_engines(config: Config) -> ssl.SSLContext:
    ours = config.sites[config.gateway.site].tls
    return tls_context(ours if isinstance(ours, TlsConfig) else None)


def _traces(config: Config) -> TraceSettings | None:
    traces, site = config.observe.traces, config.gateway.site
    return TraceSettings(**traces.fields("gateway", site=site)) if traces else None
