"""The connector in vLLM's engine core: one thread, no waiting."""

import logging
from typing import Any

from vllm.config import VllmConfig
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.kv_cache_interface import KVCacheConfig, MambaSpec, SlidingWindowSpec, iter_layer_specs
from vllm.v1.request import Request

from prfaas.clock import MonotonicClock
from prfaas.engine.adapters import Adapters
from prfaas.engine.budget import GroupShape, LoadBudget
from prfaas.engine.guard import attempt
from prfaas.engine.load_scheduler import LoadScheduler
from prfaas.engine.metadata import StepMetadata
from prfaas.engine.params import parse_transfer_params
from prfaas.engine.save_scheduler import SaveScheduler
from prfaas.engine.settings import Settings
from prfaas.errors import RemoteProtocolError
from prfaas.transport.channel import EngineChannel
from prfaas.transport.messages import FromScheduler, LoadComplete, LoadFailed

logger = logging.getLogger(__name__)


class SchedulerSide:
    """Wires the two roles to the mover; owned by the engine core's thread."""

    def __init__(self, settings: Settings, vllm_config: VllmConfig, kv_cache_config: KVCacheConfig) -> None:
        self._channel: EngineChannel | None = None
        select = kv_cache_config.select_transfer_block_ids
        adapters = Adapters(settings.adapters, vllm_config.lora_config)
        self.saves = SaveScheduler(self._send, select, adapters)
        self.loads = LoadScheduler(
            self._send,
            select,
            _attention_block_tokens(kv_cache_config),
            build_budget(settings.load_share, vllm_config, kv_cache_config),
            lambda: self.is_connected,
            adapters,
            MonotonicClock(),
        )

    def connect(self, socket_path: str) -> None:
        """Connect to the worker's mover, once, before any request."""
        self._channel = EngineChannel.connect(socket_path)

    def _send(self, message: FromScheduler) -> None:
        if self._channel is not None:
            self._channel.send(message)

    @property
    def is_connected(self) -> bool:
        return self._channel is not None and self._channel.is_open

    def arrive(self, request: Request) -> None:
        """Look at a new request; one whose transfer cannot happen is served as an ordinary local one."""
        try:
            params = parse_transfer_params(request.kv_transfer_params)
        except RemoteProtocolError as error:
            logger.warning("request served locally: %s", error)
            params = None
        if params is not None and not self.is_connected:
            logger.error(
                "transfer %s stays local: the mover process is gone; restart this engine",
                params.transfer_id,
                extra={"transfer_id": params.transfer_id},
            )
            params = None
        self.saves.arrive(request, params)
        self.loads.arrive(request, params)

    def step(self, output: SchedulerOutput) -> StepMetadata:
        """Hear the mover and give this step's orders to the workers."""
        attempt(self._poll)
        metadata = StepMetadata(is_decoding=self.loads.is_decoding(output.num_scheduled_tokens))
        # Each by itself: what one has moved into the metadata does not come again.
        attempt(self.saves.scheduled, output, metadata)
        attempt(self.loads.fill, metadata)
        return metadata

    def _poll(self) -> None:
        for message in self._channel.poll() if self._channel else ():
            if isinstance(message, LoadComplete | LoadFailed):
                attempt(self.loads.heard, message)

    def finished(self, request: Request) -> tuple[bool, dict[str, Any] | None]:
        """The engine is done with a request: whether to keep its blocks, and what the response says of the load."""
        outcome = self.loads.finished(request)
        # Last: once the worker has been told to report the save, vLLM must hear that its blocks are kept.
        keep_blocks = self.saves.finished(request)
        return keep_blocks, {"prfaas": outcome} if outcome else None

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()


def _attention_block_tokens(kv_cache_config: KVCacheConfig) -> frozenset[int]:
    return frozenset(
        group.kv_cache_spec.block_size
        for group in kv_cache_config.transfer_groups
        if not any(isinstance(spec, MambaSpec) for spec in iter_layer_specs(group.kv_cache_spec))
    )


def build_budget(load_share: float, vllm_config: VllmConfig, kv_cache_config: KVCacheConfig) -> LoadBudget:
    """The engine's groups, and the share of its blocks that loads may hold."""
    groups = []
    for group in kv_cache_config.kv_cache_groups:
        spec = next(iter(iter_layer_specs(group.kv_cache_spec)))
        max_blocks = max_prefill_blocks = None
        if isinstance(spec, MambaSpec):
            # The running state, its successor at a block boundary, and a copy of a state that is shared.
            max_blocks = max_prefill_blocks = 3 + spec.num_speculative_blocks + spec.num_prefill_checkpoint_blocks
        elif isinstance(spec, SlidingWindowSpec):
            # The window may begin and end inside a block.
            max_blocks = -(-spec.sliding_window // spec.block_size) + 2
            max_prefill_blocks = spec.max_admission_blocks_per_request(
                vllm_config.max_in_flight_tokens, vllm_config.model_config.max_model_len
            )
        groups.append(GroupShape(spec.block_size, max_blocks, max_prefill_blocks))
    # One block is vLLM's null block.
    return LoadBudget(tuple(groups), int((kv_cache_config.num_blocks - 1) * load_share))
