"""The connector in a model runner: owns the mover process and the staging memory; one thread, no waiting."""

import logging
import math
import os

import torch
from vllm.config import VllmConfig
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorTransferResults
from vllm.v1.kv_cache_interface import KVCacheConfig

from prfaas.clock import Clock, MonotonicClock
from prfaas.engine.facts import engine_facts
from prfaas.engine.fingerprint import build_fingerprint
from prfaas.engine.geometry import build_layout
from prfaas.engine.guard import attempt
from prfaas.engine.layout import CacheLayout
from prfaas.engine.load_worker import LoadWorker
from prfaas.engine.metadata import LoadCancel, StepMetadata
from prfaas.engine.prefix_geometry import prefix_source
from prfaas.engine.save_worker import SaveWorker
from prfaas.engine.settings import Settings
from prfaas.engine.stats import LinkStats, StatisticsAsker
from prfaas.errors import ConfigError
from prfaas.transport.messages import (
    Arrived,
    FromWorker,
    HeldTokens,
    LoadComplete,
    LoadFailed,
    SaveClosed,
    SlotsFree,
    Statistics,
    ToEngine,
)
from prfaas.transport.process import MoverConfig, MoverProcess

logger = logging.getLogger(__name__)

WRITE_SHARE = 0.08
"""Share of a decoding step's time that writing arrived pieces may add: copies also cost the next step its caches, and
together they stay below 15 %. At 15 to 25 us a piece of 64 to 192 KiB that is still 350 to 600 MB/s."""

MOVER_GONE = "the mover process is gone; restart this engine"


class WorkerSide:
    """Made when the engine starts, opened once the cache exists; owned by the model runner's thread."""

    def __init__(
        self,
        settings: Settings,
        vllm_config: VllmConfig,
        kv_cache_config: KVCacheConfig,
        clock: Clock | None = None,
    ) -> None:
        self._settings = settings
        self._vllm_config = vllm_config
        self._kv_cache_config = kv_cache_config
        self._clock = clock or MonotonicClock()
        self._mover: MoverProcess | None = None
        self._is_decoding = False
        self._forward_began_s = 0.0
        self._statistics = StatisticsAsker(self._send, self._clock)
        self.saves: SaveWorker
        self.loads: LoadWorker

    def open(self, kv_caches: dict[str, torch.Tensor]) -> None:
        """Describe the registered cache, start the mover and share the staging memory with it.

        Raises:
            ConfigError: the cache cannot be handed over, or the mover does not start.
        """
        layout = build_layout(self._vllm_config, self._kv_cache_config, kv_caches)
        if any(cache.device.type != "cpu" for cache in kv_caches.values()):
            raise ConfigError("the prfaas connector copies caches in host memory only; it needs the CPU build of vLLM")
        settings = self._settings
        self._mover = MoverProcess.spawn(
            MoverConfig(
                engine_id=settings.engine_id,
                epoch=int.from_bytes(os.urandom(4), "big"),
                fingerprint=build_fingerprint(self._vllm_config, self._kv_cache_config, layout),
                listen=settings.listen or None,
                data_port=settings.bound_data_port,
                serves_tcp=settings.serves_tcp,
                grpc_peers=settings.grpc_peers,
                tls=settings.tls,
                advertise_host=None,
                peers=settings.peers,
                dials=(*settings.peers, *settings.also_dials),
                slot_bytes=settings.slot_bytes,
                send_slots=settings.send_slots,
                receive_slots=settings.receive_slots,
                data_connections=settings.data_connections,
                rate_limits=settings.rate_limits,
                link_bandwidth_bytes_s=settings.link_gbps * 125e6,
                heartbeat_s=settings.heartbeat_s,
                lease_s=settings.lease_s,
                cpus=settings.mover_cpus or None,
                prefixes=prefix_source(self._vllm_config, self._kv_cache_config),
                facts=engine_facts(self._vllm_config, self._kv_cache_config),
                logs=settings.logs,
                traces=settings.traces,
            )
        )
        memory = torch.frombuffer(self._mover.staging.buffer, dtype=torch.uint8)
        arena = memory.view(settings.send_slots + settings.receive_slots, settings.slot_bytes)
        self._make_roles(layout, arena[: settings.send_slots], arena[settings.send_slots :])
        logger.info(
            "prfaas: %d layers, staging %d MiB, listening on %s",
            len(layout.layers),
            memory.numel() >> 20,
            self._mover.listen or "nothing",
        )

    def _make_roles(self, layout: CacheLayout, send_arena: torch.Tensor, receive_arena: torch.Tensor) -> None:
        self.saves = SaveWorker(layout, send_arena, self._send, self._clock, self._settings.lease_s)
        self.loads = LoadWorker(layout, receive_arena, self._send, self._clock)

    @property
    def socket_path(self) -> str:
        """Where the scheduler side connects to the mover."""
        assert self._mover is not None
        return self._mover.socket_path

    def _send(self, message: FromWorker) -> None:
        assert self._mover is not None
        self._mover.channel.send(message)

    def begin_step(self, metadata: StepMetadata) -> None:
        """Before the forward pass: hear the mover, take the orders, send what is already there."""
        attempt(self._poll)
        # Each by itself: these orders do not come again.
        for start in metadata.load_starts:
            if not attempt(self.loads.start, start):
                # vLLM waits for the load's end, whatever became of its beginning.
                attempt(self.loads.cancel, LoadCancel(start.request_id, start.transfer_id))
        for cancel in metadata.load_cancels:
            attempt(self.loads.cancel, cancel)
        for finish in metadata.save_finishes:
            attempt(self.saves.finish, [finish])
        attempt(self.saves.begin_step, metadata.save_steps)
        self._is_decoding, self._forward_began_s = metadata.is_decoding, self._clock.now_s()

    def save_layer(self, name: str) -> None:
        """Within the forward pass, after a layer's attention: copy its rows out.

        A long pass needs its slots more than once, so the mover is heard here too when there are few; of loads it only
        queues what there is to write.
        """
        if self.saves.is_short:
            attempt(self._poll)
        self.saves.after_layer(name)

    def load(self) -> None:
        """After the forward pass: write what has arrived meanwhile, a little of it when others wait for this step."""
        attempt(self._poll)
        forward_s = self._clock.now_s() - self._forward_began_s
        attempt(self.loads.write, WRITE_SHARE * forward_s if self._is_decoding else math.inf)
        self.loads.expire()

    def results(self) -> KVConnectorTransferResults:
        """Loads and saves that ended in this step."""
        results = KVConnectorTransferResults()
        attempt(self._take_loads, results)
        attempt(self._take_saves, results)
        return results

    def _take_loads(self, results: KVConnectorTransferResults) -> None:
        results.finished_recving, results.failed_recving = self.loads.take_results()

    def _take_saves(self, results: KVConnectorTransferResults) -> None:
        results.finished_sending = self.saves.take_finished()

    def take_statistics(self) -> LinkStats | None:
        """What is new of the links."""
        return self._statistics.take()

    def _poll(self) -> None:
        assert self._mover is not None
        for message in self._mover.channel.poll():
            attempt(self._dispatch, message)
        if not self._mover.channel.is_open:
            self.loads.close_all(MOVER_GONE)
            self.saves.close_all(MOVER_GONE)

    def _dispatch(self, message: ToEngine) -> None:
        if isinstance(message, Arrived | LoadComplete | LoadFailed):
            self.loads.heard(message)
        elif isinstance(message, SlotsFree | HeldTokens | SaveClosed):
            self.saves.heard(message)
        elif isinstance(message, Statistics):
            self._statistics.heard(message.figures.links)

    def close(self) -> None:
        if self._mover is not None:
            self._mover.close()
