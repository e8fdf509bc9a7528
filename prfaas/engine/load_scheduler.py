"""The decode side's bookkeeping in vLLM's engine core: which requests wait for a cache from another site.

    opened    on_new_request: the mover dials the prefill engine while the request queues
    started   blocks are allocated, the worker may write into them
    finished  the worker has reported the load, or the request turned to local prefill; nothing follows

A request is matched at most once: after a failed load vLLM asks again and must hear "nothing" to recompute.
"""

import enum
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from vllm.v1.core.kv_cache_manager import KVCacheBlocks, KVCacheManager
from vllm.v1.request import Request

from prfaas.clock import Clock
from prfaas.engine.adapters import UNKNOWN, Adapters
from prfaas.engine.budget import LoadBudget
from prfaas.engine.metadata import BlockIds, LoadCancel, LoadStart, StepMetadata
from prfaas.engine.params import TransferParams
from prfaas.transport.messages import Cancel, DeclineLoad, FromScheduler, LoadComplete, LoadFailed, OpenLoad, StartLoad

logger = logging.getLogger(__name__)

WORKER_GRACE_S = 10.0
"""The worker ends a late load by itself, some seconds after its deadline; one that does not has lost its order."""


class LoadPhase(enum.Enum):
    OPENED = enum.auto()
    STARTED = enum.auto()
    FINISHED = enum.auto()


@dataclass
class Load:
    """One request that waits for its cache.

    ``outcome`` is what the response will say, to any client: reasons are not in it, for they may name addresses. They
    are in the mover's report. ``deadline_s`` is first that of its start, then that of its end.
    """

    request_id: str
    params: TransferParams
    deadline_s: float
    is_cancelled: bool = False
    phase: LoadPhase = LoadPhase.OPENED
    outcome: dict[str, Any] = field(default_factory=dict)


class LoadScheduler:
    """Owned by the engine core's thread; every method runs there and none of them blocks.

    Args:
        send: hands a message to the mover, never blocks.
        select_blocks: picks the transfer groups out of a request's block ids.
        attention_block_tokens: block sizes of the attention groups; a local hit must end on all of them.
        budget: blocks that loads may hold.
        is_connected: whether the mover is there.
        adapters: those whose caches may be loaded.
    """

    def __init__(
        self,
        send: Callable[[FromScheduler], None],
        select_blocks: Callable[[tuple[list[int], ...]], tuple[list[int], ...]],
        attention_block_tokens: frozenset[int],
        budget: LoadBudget,
        is_connected: Callable[[], bool],
        adapters: Adapters,
        clock: Clock,
    ) -> None:
        self._send = send
        self._select_blocks = select_blocks
        self._attention_block_tokens = attention_block_tokens
        self._budget = budget
        self._is_connected = is_connected
        self._adapters = adapters
        self._clock = clock
        self._manager: KVCacheManager | None = None
        self._loads: dict[str, Load] = {}
        self._by_transfer: dict[str, Load] = {}
        self._requests: dict[str, Request] = {}
        self._allocated_this_step: set[str] = set()
        self._reserved: int | None = None
        self._starts: list[LoadStart] = []
        self._cancels: list[LoadCancel] = []

    def bind(self, manager: KVCacheManager) -> None:
        """Take the engine's cache manager, whose free blocks bound the loads."""
        self._manager = manager

    def arrive(self, request: Request, params: TransferParams | None) -> None:
        """A request has come in; open its transfer when it has one that can be loaded."""
        self._requests[request.request_id] = request
        self._reserved = None
        if params is None or params.role != "decode":
            return
        if params.transfer_id in self._by_transfer:
            logger.warning(
                "transfer %s has a second request (n > 1?), which stays local",
                params.transfer_id,
                extra={"transfer_id": params.transfer_id},
            )
            return
        if reason := self._why_not_loadable(request):
            logger.warning(
                "transfer %s stays local: %s", params.transfer_id, reason, extra={"transfer_id": params.transfer_id}
            )
            self._send(DeclineLoad(params.transfer_id, params.secret, reason))
            return
        load = Load(request.request_id, params, self._clock.now_s() + params.timeout_s)
        self._loads[request.request_id] = self._by_transfer[params.transfer_id] = load
        adapter = self._adapters.digest_of(request.lora_request)
        opened = OpenLoad(
            *(params.transfer_id, params.secret, params.remote, params.timeout_s), adapter=adapter, trace=params.trace
        )
        self._send(opened)

    def _why_not_loadable(self, request: Request) -> str:
        if request.get_skip_reading_prefix_cache():
            return "the request reads no cache (prompt logprobs)"
        if request.mm_features or request.prompt_embeds is not None or request.resumable:
            return "only token prompts can be loaded"
        if self._adapters.digest_of(request.lora_request) == UNKNOWN:
            return "this engine cannot tell its adapter from another one of the same name"
        if request.num_tokens < 2:
            return "a prompt of one token has nothing to load"
        if not self._budget.fits_ever(request.num_tokens):
            return f"its {request.num_tokens} tokens exceed the blocks that loads may hold"
        return ""

    def match(self, request: Request, num_local_tokens: int) -> int | None:
        """Tokens that the transfer brings beyond the local hit; None means ask again in the next step."""
        load = self._loads.get(request.request_id)
        if load is None or load.phase is not LoadPhase.OPENED:
            return 0
        num_tokens = request.num_tokens - 1
        if request.num_preemptions or num_local_tokens >= num_tokens or not self._is_aligned(num_local_tokens):
            self._turn_local(load, "the local cache covers the prompt")
            return 0
        if self._clock.now_s() > load.deadline_s or not self._is_connected():
            self._turn_local(load, "no blocks became free in time")
            return 0
        assert self._manager is not None
        # vLLM asks for every waiting request in every step, so what is cheap comes first.
        if not self._budget.fits_share(request.num_tokens):
            return None
        free_blocks = self._manager.block_pool.get_num_free_blocks() - self._manager.watermark_blocks
        if self._budget.blocks_for(request.num_tokens) + self._reserved_blocks() > free_blocks:
            return None
        return int(num_tokens - num_local_tokens)

    def _reserved_blocks(self) -> int:
        """Blocks that running prefills still need; they change only with a step and with what it admits."""
        if self._reserved is None:
            self._reserved = self._budget.reserve(self._unfinished_prefills())
        return self._reserved

    def _unfinished_prefills(self) -> list[tuple[int, int]]:
        """(all tokens, computed tokens) of requests that hold blocks and still need some."""
        return [
            (request.num_tokens, request.num_computed_tokens)
            for request_id, request in self._requests.items()
            if (request.num_computed_tokens or request_id in self._allocated_this_step)
            # One that vLLM has preempted computes its output again, too.
            and request.num_computed_tokens < max(request.num_prompt_tokens, request.num_tokens - 1)
        ]

    def _is_aligned(self, num_tokens: int) -> bool:
        return all(num_tokens % block_tokens == 0 for block_tokens in self._attention_block_tokens)

    def allocated(self, request: Request, blocks: KVCacheBlocks, num_external_tokens: int) -> None:
        """Blocks were allocated: start the load, or drop it when vLLM decided to load nothing."""
        self._allocated_this_step.add(request.request_id)
        self._reserved = None
        load = self._loads.get(request.request_id)
        if load is None or load.phase is not LoadPhase.OPENED:
            return
        if num_external_tokens == 0:
            self._turn_local(load, "the scheduler loads nothing")
            return
        num_tokens = request.num_tokens - 1
        held_tokens = num_tokens - num_external_tokens
        load.phase = LoadPhase.STARTED
        load.deadline_s = self._clock.now_s() + load.params.timeout_s
        load.outcome = {"held_tokens": held_tokens}
        # First of all: a request whose start the worker never hears of would wait for ever.
        self._starts.append(
            LoadStart(
                request_id=request.request_id,
                transfer_id=load.params.transfer_id,
                held_tokens=held_tokens,
                num_tokens=num_tokens,
                timeout_s=load.params.timeout_s,
                block_ids=self._block_ids(blocks.get_block_ids()),
            )
        )
        self._budget.hold(request.request_id, request.num_tokens)
        self._send(StartLoad(load.params.transfer_id, held_tokens, num_tokens))

    def _block_ids(self, block_ids: tuple[list[int], ...]) -> BlockIds:
        return tuple(tuple(group) for group in self._select_blocks(block_ids))

    def _turn_local(self, load: Load, reason: str) -> None:
        load.phase = LoadPhase.FINISHED
        load.outcome = {"ok": False}
        self._send(Cancel(load.params.transfer_id, reason))

    def heard(self, message: LoadComplete | LoadFailed) -> None:
        """The mover reports how a transfer ended: one that has not started turns local, the worker ends the others."""
        load = self._by_transfer.get(message.transfer_id)
        if load is None:
            return
        if isinstance(message, LoadComplete):
            load.outcome |= {"cache_bytes": message.cache_bytes, "early_bytes": message.early_bytes}
        elif load.phase is not LoadPhase.FINISHED:
            load.outcome |= {"ok": False}
            if load.phase is LoadPhase.OPENED:
                load.phase = LoadPhase.FINISHED

    def reported(self, finished: set[str], failed: set[str]) -> None:
        """The workers have ended these loads: their blocks are ordinary blocks of the request from here on."""
        for request_id in finished:
            self._budget.release(request_id)
            if load := self._loads.get(request_id):
                load.phase = LoadPhase.FINISHED
                load.outcome |= {"ok": request_id not in failed}

    def finished(self, request: Request) -> dict[str, Any] | None:
        """The engine is done with the request, by whatever way; returns what the response says of its load."""
        self._requests.pop(request.request_id, None)
        load = self._loads.pop(request.request_id, None)
        if load is None:
            return None
        del self._by_transfer[load.params.transfer_id]
        if load.phase is LoadPhase.OPENED:
            self._send(Cancel(load.params.transfer_id, "the request ended before its load started"))
        elif load.phase is LoadPhase.STARTED:
            # vLLM keeps the blocks until the worker reports the load, so writing stops first.
            self._cancels.append(LoadCancel(request.request_id, load.params.transfer_id))
        return {"transfer_id": load.params.transfer_id, **load.outcome}

    def _cancel_silent(self) -> None:
        """Ask the worker again about loads that it should have ended: vLLM waits for its word without a limit."""
        now_s = self._clock.now_s()
        for load in self._loads.values():
            if load.phase is LoadPhase.STARTED and now_s > load.deadline_s + WORKER_GRACE_S and not load.is_cancelled:
                logger.error(
                    "transfer %s: the worker has not ended it in time",
                    load.params.transfer_id,
                    extra={"transfer_id": load.params.transfer_id},
                )
                load.is_cancelled = True
                self._cancels.append(LoadCancel(load.request_id, load.params.transfer_id))

    def is_decoding(self, request_ids: Iterable[str]) -> bool:
        """Whether one of these requests, which are about to be computed, has its whole prompt behind it."""
        requests = (self._requests.get(request_id) for request_id in request_ids)
        return any(r is not None and r.num_computed_tokens >= r.num_prompt_tokens for r in requests)

    def fill(self, metadata: StepMetadata) -> None:
        """Move this step's orders into the metadata; the step is scheduled."""
        self._allocated_this_step.clear()
        self._reserved = None
        self._cancel_silent()
        metadata.load_starts, self._starts = self._starts, []
        metadata.load_cancels, self._cancels = self._cancels, []
