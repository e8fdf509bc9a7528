"""What a mover lets those see who ask before there is traffic: its engine, and how fast the path from it is."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable

from prfaas.transport.noise import JOIN_WAIT_S, Probes
from prfaas.transport.settings import MoverConfig
from prfaas.wire import transfer_pb2 as pb
from prfaas.wire.description import Description
from prfaas.wire.pace import Pace
from prfaas.wire.session import VERSIONS

log = logging.getLogger(__name__)


class Look:
    """Answers for one mover.

    Attributes:
        names: who may ask which engine this is; None for anybody, without TLS.
    """

    def __init__(
        self,
        config: MoverConfig,
        data_port: int,
        probes: Probes,
        pace: Callable[[str], Pace],
        unix_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """``pace`` is how fast noise may leave for an engine; ``data_port`` is announced."""
        self.names = config.tls.may_look(config.listen) if config.tls else None
        self._config, self._data_port = config, data_port
        self._probes, self._pace, self._unix_ns = probes, pace, unix_ns

    def describe(self) -> Description:
        """This engine, now."""
        config = self._config
        return Description(
            engine_id=config.engine_id,
            epoch=config.epoch,
            versions=VERSIONS,
            slot_bytes=config.slot_bytes,
            data_port=self._data_port,
            fingerprint=config.fingerprint,
            facts=config.facts,
            unix_ns=self._unix_ns(),
        )

    async def probe(self, request: pb.ProbeRequest, caller: str) -> AsyncGenerator[pb.ProbeReply, None]:
        """Say how to join, send noise, say how much it was. Ends with the request's time, or when its caller leaves.
        ``caller`` is its address, for the log: what it says of itself is its word.

        Raises:
            RemoteProtocolError: a request out of bounds.
            TransferFailed: another probe runs.
        """
        noise = self._probes.begin(request, self._pace(request.engine_id))
        try:
            await asyncio.sleep(self._probes.pause_s())  # until transfers have had the link as long as the last probe
            yield pb.ProbeReply(token=noise.token, data_port=self._data_port)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(JOIN_WAIT_S):
                    await noise.began.wait()
                async with asyncio.timeout(request.duration_ms / 1e3):
                    await noise.ended.wait()
            noise.close()
            yield pb.ProbeReply(
                sent_bytes=noise.sent_bytes,
                sent_segments=noise.sent_segments,
                retransmitted_segments=noise.retransmitted_segments,
            )
        finally:
            took_s = self._probes.end(noise)
            who = request.engine_id or "no engine"
            log.info("a probe of %s for %s sent %d bytes in %.1f s", caller, who, noise.sent_bytes, took_s)
