"""``PrfaasConnector``: vLLM's connector interface, and nothing else.

One class for both roles (``kv_role: kv_both``): an engine can prefill for other sites and load from them. vLLM makes
one instance in the engine core (scheduler side) and one in each worker. An exception in any hook would kill the
engine, so every hook is guarded: what goes wrong costs one remote prefill, never a request.
"""

from typing import Any

import torch
from vllm.config import VllmConfig
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorHandshakeMetadata,
    KVConnectorMetadata,
    KVConnectorRole,
    KVConnectorTransferResults,
    SupportsHMA,
)
from vllm.v1.core.kv_cache_manager import KVCacheBlocks, KVCacheManager
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, MambaSpec
from vllm.v1.metrics.cache_hit_source import CacheHitSource
from vllm.v1.outputs import KVConnectorOutput
from vllm.v1.request import Request

from prfaas.engine.guard import guarded
from prfaas.engine.metadata import MoverAddress, StepMetadata
from prfaas.engine.prefix_geometry import make_event_folder
from prfaas.engine.scheduler_side import SchedulerSide
from prfaas.engine.settings import Settings
from prfaas.engine.stats import LinkMetrics, LinkStats
from prfaas.engine.worker_side import WorkerSide
from prfaas.observe.logs import configure_ours


def nothing() -> None:
    return None


def no_news() -> LinkStats | None:
    return None


def no_match() -> tuple[int | None, bool]:
    return 0, False


def free_at_once() -> tuple[bool, dict[str, Any] | None]:
    return False, None


class PrfaasConnector(KVConnectorBase_V1, SupportsHMA):
    """Hands hybrid caches between engines in different sites (see ``prfaas.engine`` for the two sides)."""

    _cache_hit_source = CacheHitSource.P2P

    def __init__(self, vllm_config: VllmConfig, role: KVConnectorRole, kv_cache_config: KVCacheConfig) -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        settings = Settings.from_vllm(vllm_config)
        configure_ours(settings.logs)
        self._scheduler_side: SchedulerSide | None = None
        self._worker_side: WorkerSide | None = None
        if role is KVConnectorRole.SCHEDULER:
            make_event_folder(vllm_config)
            self._scheduler_side = self._make_scheduler_side(settings)
        else:
            self._worker_side = self._make_worker_side(settings)

    def _make_scheduler_side(self, settings: Settings) -> SchedulerSide:
        return SchedulerSide(settings, self._vllm_config, self._kv_cache_config)

    def _make_worker_side(self, settings: Settings) -> WorkerSide:
        return WorkerSide(settings, self._vllm_config, self._kv_cache_config)

    @property
    def scheduler_side(self) -> SchedulerSide:
        assert self._scheduler_side is not None, "called in a worker"
        return self._scheduler_side

    @property
    def worker_side(self) -> WorkerSide:
        assert self._worker_side is not None, "called in the engine core"
        return self._worker_side

    # both sides

    @property
    def supports_divergent_local_hybrid_hits(self) -> bool:
        """Whether a local hit may be deeper in attention than in recurrent state, which always comes over the link.

        vLLM lets every other group lag then, so it must be recurrent ones alone beside one group of full attention.
        """
        kinds = [type(group.kv_cache_spec) for group in self._kv_cache_config.transfer_groups]
        return [kind for kind in kinds if kind is not MambaSpec] == [FullAttentionSpec]

    @classmethod
    def get_required_kvcache_layout(cls, vllm_config: VllmConfig) -> str | None:
        """Heads outside tokens, as the row payload wants it; MLA has one head and takes any layout."""
        model = vllm_config.model_config
        return None if model is None or model.use_mla else "LBHNC"

    @classmethod
    def requires_piecewise_for_cudagraph(cls, extra_config: dict[str, Any]) -> bool:
        """The layer hooks do not run inside a full CUDA graph."""
        return True

    @guarded(no_news)
    def get_kv_connector_stats(self) -> LinkStats | None:
        return None if self._worker_side is None else self._worker_side.take_statistics()

    @classmethod
    def build_kv_connector_stats(cls, data: dict[str, Any] | None = None) -> LinkStats:
        return LinkStats(data or {})

    @classmethod
    def build_prom_metrics(
        cls,
        vllm_config: VllmConfig,
        metric_types: dict[type[Any], type[Any]],
        labelnames: list[str],
        per_engine_labelvalues: dict[int, list[object]],
    ) -> LinkMetrics:
        return LinkMetrics(vllm_config, metric_types, labelnames, per_engine_labelvalues)

    @guarded(nothing)
    def shutdown(self) -> None:
        side = self._scheduler_side or self._worker_side
        assert side is not None
        side.close()

    # scheduler side

    @guarded(nothing)
    def bind_kv_cache_manager(self, kv_cache_manager: KVCacheManager) -> None:
        super().bind_kv_cache_manager(kv_cache_manager)
        self.scheduler_side.loads.bind(kv_cache_manager)

    def set_xfer_handshake_metadata(self, metadata: dict[int, KVConnectorHandshakeMetadata]) -> None:
        """Connect to the mover that the worker has started; not guarded, an engine without one must not start."""
        address = metadata[0]
        assert isinstance(address, MoverAddress)
        self.scheduler_side.connect(address.socket_path)

    def get_loaded_kv_cache_group_ids(self, request: Request) -> tuple[int, ...]:
        """A hand-over restores every group; the default would have recurrent blocks zeroed while they load."""
        return tuple(self._kv_cache_config.transfer_group_ids)

    @guarded(nothing)
    def on_new_request(self, request: Request) -> None:
        self.scheduler_side.arrive(request)

    @guarded(no_match)
    def get_num_new_matched_tokens(self, request: Request, num_computed_tokens: int) -> tuple[int | None, bool]:
        count = self.scheduler_side.loads.match(request, num_computed_tokens)
        return count, bool(count)

    @guarded(nothing)
    def update_state_after_alloc(self, request: Request, blocks: KVCacheBlocks, num_external_tokens: int) -> None:
        self.scheduler_side.loads.allocated(request, blocks, num_external_tokens)

    @guarded(StepMetadata)
    def build_connector_meta(self, scheduler_output: SchedulerOutput) -> KVConnectorMetadata:
        return self.scheduler_side.step(scheduler_output)

    @guarded(nothing)
    def update_connector_output(self, connector_output: KVConnectorOutput) -> None:
        self.scheduler_side.loads.reported(
            connector_output.finished_recving or set(), connector_output.failed_recving or set()
        )
        self.scheduler_side.saves.reported(connector_output.finished_sending or set())

    @guarded(free_at_once)
    def request_finished_all_groups(
        self, request: Request, block_ids: tuple[list[int], ...]
    ) -> tuple[bool, dict[str, Any] | None]:
        return self.scheduler_side.finished(request)

    # worker side

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        """Describe the cache and start the mover; not guarded, what is wrong here should stop the start-up."""
        self.worker_side.open(kv_caches)

    def get_handshake_metadata(self) -> KVConnectorHandshakeMetadata | None:
        return MoverAddress(self.worker_side.socket_path)

    @guarded(nothing)
    def bind_connector_metadata(self, connector_metadata: KVConnectorMetadata) -> None:
        super().bind_connector_metadata(connector_metadata)
        assert isinstance(connector_metadata, StepMetadata)
        self.worker_side.begin_step(connector_metadata)

    @guarded(nothing)
    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        self.worker_side.load()

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Loads are asynchronous: vLLM runs a request only after its load has been reported."""

    @guarded(nothing)
    def save_kv_layer(self, layer_name: str, kv_layer: torch.Tensor, attn_metadata: Any, **kwargs: Any) -> None:
        self.worker_side.save_layer(layer_name)

    @guarded(nothing)
    def wait_for_save(self) -> None:
        self.worker_side.saves.end_step()

    @guarded(KVConnectorTransferResults)
    def get_transfer_results(self, finished_req_ids: set[str]) -> KVConnectorTransferResults:
        return self.worker_side.results()
