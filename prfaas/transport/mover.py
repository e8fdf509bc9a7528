"""The mover process: ``python -m prfaas.transport.mover``, started by ``MoverProcess`` and never by hand.

One asyncio loop owns everything: sockets, gRPC, staging slots and all transfers. So nothing here needs a lock, and
what takes long is cut into bursts of about 2 ms. Kernel copies and checksums dominate; both release the GIL or need
none, and this process has no other work.
"""

import asyncio
import ctypes
import logging
import os
import signal
import socket
import sys

import grpc
import msgspec
import uvloop

from prfaas.clock import MonotonicClock
from prfaas.errors import PrfaasError
from prfaas.observe.logs import configure
from prfaas.observe.traces import open_tracer
from prfaas.tracing import NO_TRACER, Tracer
from prfaas.transport.control_streams import ControlStreams
from prfaas.transport.data_port import DataOwner, DataPort
from prfaas.transport.data_service import DataService
from prfaas.transport.dialer import Dialer
from prfaas.transport.engine_port import EnginePort
from prfaas.transport.guard import guarded
from prfaas.transport.kv_events import KvEvents
from prfaas.transport.loads import Loads
from prfaas.transport.look import Look
from prfaas.transport.messages import (
    AskStatistics,
    Cancel,
    DeclineLoad,
    FromEngine,
    LoadUsed,
    OfferSave,
    OpenLoad,
    Ready,
    SaveEnd,
    SlotsDone,
    Staged,
    StartLoad,
    Statistics,
)
from prfaas.transport.noise import Probes
from prfaas.transport.prefix_feed import PrefixFeed
from prfaas.transport.report_book import ReportBook
from prfaas.transport.saves import Saves
from prfaas.transport.service import KvLink, serve
from prfaas.transport.settings import MoverLaunch, PrefixSource
from prfaas.transport.staging import Staging
from prfaas.transport.tls import KeyRing
from prfaas.types import MoverStatistics
from prfaas.wire.session import Identity

GOODBYE_S = 0.2
"""For the peers to hear that we stop."""
FLUSH_S = 1.0
"""For the last spans: of the time that the worker waits for this process, a third."""
TICK_S = 0.05
"""How late a deadline may be noticed."""
PR_SET_PDEATHSIG = 1

log = logging.getLogger("prfaas.mover")


class Mover:
    """Wires the parts of one mover and routes the engine's messages to them."""

    def __init__(self, launch: MoverLaunch, tracer: Tracer = NO_TRACER) -> None:
        config = launch.config
        self._config = config
        self._clock = MonotonicClock()
        self._tracer = tracer
        self._stopped = asyncio.Event()
        self._staging = Staging.attach(
            launch.staging_fd,
            slot_bytes=config.slot_bytes,
            send_slots=config.send_slots,
            receive_slots=config.receive_slots,
        )
        self._us = Identity(config.engine_id, config.epoch, config.slot_bytes, config.fingerprint)
        self._engine = EnginePort(
            socket.socket(fileno=launch.worker_fd), launch.socket_path, self.receive, self._stopped.set
        )
        self._reports = ReportBook()
        self._ring = KeyRing(config.tls) if config.tls else None
        self._loads = Loads(
            *(config, self._us, self._staging, self._engine, self._reports, self._clock, self._dialer), tracer=tracer
        )
        self._saves = Saves(config, self._staging, self._engine, self._clock, tracer)
        self._probes = Probes(self._clock)
        self._prefixes, self._events = _prefixes(config.prefixes)

    def _dialer(self, address: str) -> Dialer:
        return Dialer(address, self._ring, over_grpc=address in self._config.grpc_peers)

    def receive(self, message: FromEngine) -> None:
        """Act on a message of the engine."""
        match message:
            case OpenLoad():
                self._loads.open(message)
            case DeclineLoad():
                self._loads.decline(message)
            case StartLoad():
                self._loads.start(message)
            case SlotsDone():
                self._loads.slots_done(message)
            case LoadUsed():
                self._loads.used(message)
            case OfferSave():
                self._saves.offer(message)
            case Staged():
                self._saves.stage(message)
            case SaveEnd():
                self._saves.end(message)
            case AskStatistics():
                self._engine.to_worker(Statistics(self.statistics()))
            case Cancel():
                self._loads.cancel(message)
                self._saves.cancel(message)

    def statistics(self) -> MoverStatistics:
        """The figures at this moment."""
        return MoverStatistics(
            open_loads=self._loads.open_loads,
            open_saves=self._saves.open_saves,
            lent_send_slots=self._saves.lent_slots,
            lent_receive_slots=self._loads.arena.lent_slots,
            dialed_sessions=self._loads.open_sessions,
            accepted_sessions=len(self._saves.sessions),
            sent_bytes=self._saves.sent_bytes,
            resent_bytes=self._saves.resent_bytes,
            received_bytes=self._loads.received_bytes,
            completed_loads=self._loads.completed_loads,
            failed_loads=self._loads.failed_loads,
            completed_saves=self._saves.completed_saves,
            failed_saves=self._saves.failed_saves,
            dropped_spans=self._tracer.dropped_spans,
            links=(*self._saves.meters.statistics(), *self._loads.meters.statistics()),
        )

    def stop(self) -> None:
        """End ``run``."""
        self._stopped.set()

    async def run(self) -> None:
        """Serve until the worker's socket closes or ``stop``."""
        server: grpc.aio.Server | None = None
        background: list[asyncio.Task[None]] = []
        try:
            address = ""
            if self._config.listen is not None:
                server, data_port, address = await self._listen(self._config.listen)
                if data_port is not None:
                    background.append(asyncio.create_task(data_port.serve()))
            self._engine.open(Ready(address))
            log.info("mover of engine %s is ready, listening on %s", self._config.engine_id, address or "nothing")
            background.append(asyncio.create_task(self._tick()))
            if self._events is not None:
                background.append(asyncio.create_task(self._events.run()))
            stopped = asyncio.create_task(self._stopped.wait())
            done, _ = await asyncio.wait([*background, stopped], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await self._loads.aclose()
            # First, so that streams end without an error, which tells the peers that there is nothing to resume.
            self._saves.close()
            if server is not None:
                await server.stop(GOODBYE_S)
            self._engine.close()

    async def _listen(self, listen: str) -> tuple[grpc.aio.Server, DataPort | None, str]:
        host, _, port = listen.rpartition(":")
        data_port = None
        if self._config.serves_tcp:
            data_port = DataPort(
                *(host.strip("[]"), self._config.data_port, self._data_owners, self._ring),
                self._config.lease_s,
            )
        tick_s = self._config.heartbeat_s / 4
        announced = data_port.port if data_port else 0
        streams = ControlStreams(self._us, self._saves, self._clock, announced, tick_s)
        look = Look(self._config, announced, self._probes, self._saves.probe_pace)
        service = KvLink(streams, self._reports, self.statistics, self._config.tls, self._prefixes, look)
        data = DataService(self._data_owners, service.admit_decode)
        server, bound = serve(service, data, host, int(port), self._ring)
        await server.start()
        return server, data_port, f"{self._config.advertise_host or host}:{bound}"

    def _data_owners(self) -> list[DataOwner]:
        return [*self._saves.sessions, *self._probes.running]

    async def _tick(self) -> None:
        while True:
            now_s = self._clock.now_s()
            with guarded("a look at the loads"):
                self._loads.tick(now_s)
            with guarded("a look at the saves"):
                self._saves.tick(now_s)
            await asyncio.sleep(TICK_S)


def _prefixes(source: PrefixSource | None) -> tuple[PrefixFeed | None, KvEvents | None]:
    """The feed for gateways, and what keeps it up to date; an engine that caches no prefixes never has anything new."""
    if source is None or (source.geometry.groups and source.events is None):
        return None, None
    feed = PrefixFeed(source.geometry, source.blocks)
    return feed, KvEvents(source.events, feed) if source.events else None


def bind_process(launch: MoverLaunch) -> None:
    """Tie this process to its parent and give it its processors (it inherits the worker's, often a single one)."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != launch.parent_pid:
        raise SystemExit("the parent ended before the mover began")
    # Ctrl-C goes to the whole foreground group; the engine closes the mover when it has finished with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.sched_setaffinity(0, launch.config.cpus or range(os.cpu_count() or 1))


async def _serve(launch: MoverLaunch, tracer: Tracer) -> None:
    mover = Mover(launch, tracer)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, mover.stop)
    await mover.run()


def main() -> int:
    """Read the launch order from stdin and serve."""
    launch = msgspec.json.decode(sys.stdin.buffer.read(), type=MoverLaunch)
    configure(launch.config.logs)
    bind_process(launch)
    try:
        tracer = open_tracer(launch.config.traces)
        try:
            uvloop.run(_serve(launch, tracer))
        finally:
            tracer.close(FLUSH_S)
    except PrfaasError as error:
        log.error("the mover cannot start: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
