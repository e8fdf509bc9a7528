"""The prefill side's bookkeeping in vLLM's engine core: which requests hand their cache to another site.

The prompt is shortened by its last token before anything is computed: a recurrent state cannot be rewound, so the
state that crosses must stand before the token that the decode side computes itself.

The worker copies rows out while the prefill runs. Blocks are kept after the end until the worker says that it no
longer reads them: an engine step later when staging had room for all, longer when it had not.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.request import Request, RequestStatus

from prfaas.engine.adapters import Adapters
from prfaas.engine.metadata import SaveFinish, SaveStep, StepMetadata
from prfaas.engine.params import TransferParams
from prfaas.transport.messages import Cancel, FromScheduler, OfferSave

logger = logging.getLogger(__name__)

COMPLETED = frozenset({RequestStatus.FINISHED_LENGTH_CAPPED, RequestStatus.FINISHED_STOPPED})
"""Ends of a request whose prefill has been computed to its last token."""


@dataclass
class Save:
    """One request whose cache is handed over."""

    request: Request
    params: TransferParams
    was_scheduled: bool = False


class SaveScheduler:
    """Owned by the engine core's thread; every method runs there and none of them blocks.

    Args:
        send: hands a message to the mover, never blocks.
        select_blocks: picks the transfer groups out of a request's block ids.
        adapters: those by which caches are told apart. One of another adapter is offered, too: only so the decode side
            hears at once that it must not have it.
    """

    def __init__(
        self,
        send: Callable[[FromScheduler], None],
        select_blocks: Callable[[tuple[list[int], ...]], tuple[list[int], ...]],
        adapters: Adapters,
    ) -> None:
        self._send = send
        self._select_blocks = select_blocks
        self._adapters = adapters
        self._saves: dict[str, Save] = {}
        self._transfers: set[str] = set()
        self._kept: dict[str, str] = {}
        self._finishes: list[SaveFinish] = []

    def arrive(self, request: Request, params: TransferParams | None) -> None:
        """Offer the request's cache and shorten its prompt, before vLLM looks anything up."""
        if params is None or params.role != "prefill" or not self._is_savable(request, params):
            return
        _drop_last_prompt_token(request)
        self._saves[request.request_id] = Save(request, params)
        self._transfers.add(params.transfer_id)
        adapter = self._adapters.digest_of(request.lora_request)
        offered = OfferSave(
            *(params.transfer_id, params.secret, request.num_prompt_tokens, params.timeout_s),
            adapter=adapter,
            trace=params.trace,
        )
        self._send(offered)

    def _is_savable(self, request: Request, params: TransferParams) -> bool:
        if params.transfer_id in self._transfers:
            logger.warning(
                "transfer %s is offered twice; the second request is served plainly",
                params.transfer_id,
                extra={"transfer_id": params.transfer_id},
            )
            return False
        if request.prompt_token_ids is None or request.num_prompt_tokens < 2 or request.mm_features:
            logger.warning(
                "transfer %s needs a prompt of at least two tokens and nothing else",
                params.transfer_id,
                extra={"transfer_id": params.transfer_id},
            )
            return False
        return True

    def scheduled(self, output: SchedulerOutput, metadata: StepMetadata) -> None:
        """Add this step's saves to the metadata; block tables are readable only now."""
        for request_id, count in output.num_scheduled_tokens.items():
            save = self._saves.get(request_id)
            if save is None or output.kv_connector_block_state is None:
                continue
            block_ids = output.kv_connector_block_state.get_block_ids(request_id)
            assert block_ids is not None
            # vLLM advances num_computed_tokens only after the connector's metadata is built.
            start = save.request.num_computed_tokens
            save.was_scheduled = True
            metadata.save_steps.append(
                SaveStep(
                    request_id=request_id,
                    transfer_id=save.params.transfer_id,
                    start=start,
                    end=start + count,
                    num_tokens=save.request.num_prompt_tokens,
                    block_ids=tuple(tuple(group) for group in self._select_blocks(block_ids)),
                )
            )
        metadata.save_finishes, self._finishes = self._finishes, []

    def finished(self, request: Request) -> bool:
        """The engine is done with the request; returns whether its blocks must be kept until the worker's word."""
        save = self._saves.pop(request.request_id, None)
        if save is None:
            return False
        transfer_id = save.params.transfer_id
        is_aborted = request.status not in COMPLETED
        if is_aborted:
            self._send(Cancel(transfer_id, "the prefill request was aborted"))
        if save.was_scheduled:
            self._finishes.append(SaveFinish(request.request_id, transfer_id, is_aborted, save.params.timeout_s))
            self._kept[request.request_id] = transfer_id
        else:
            self._transfers.discard(transfer_id)
        return save.was_scheduled

    def reported(self, finished: set[str]) -> None:
        """The workers read these requests' blocks no longer: only now may their transfers' ids come again."""
        for request_id in finished:
            self._transfers.discard(self._kept.pop(request_id, ""))


def _drop_last_prompt_token(request: Request) -> None:
    """Shorten the prompt in place, as vLLM's own connectors do; ``block_hashes`` may keep one hash too many."""
    assert request.prompt_token_ids is not None
    del request.prompt_token_ids[-1]
    del request._all_token_ids[-1]
    request.num_prompt_tokens -= 1
    request.max_tokens = 1
