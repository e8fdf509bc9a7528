"""The connector as the engine tests run it: it records what it moved, and breaks itself on purpose when asked to.

Records: with ``PRFAAS_TEST_RECORDS`` set to a folder, each side appends one JSON line per transfer to ``save.jsonl`` or
``load.jsonl``: a checksum per layer over exactly the bytes that the other side must end up with, read from the paged
cache itself (not from staging) at the moment the side vouches for it.

Mutations, chosen by the transfer id so that one pair of engines serves them all:
    skip-state-<layer>-...   the decode side does not write the state of one layer, yet counts it as written
    late-state-...           the prefill side computes one token too many: the state stands one token late
"""

import json
import os
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from vllm.v1.request import Request

from prfaas.engine.connector import PrfaasConnector
from prfaas.engine.layout import AttentionLayer, Bytes, CacheLayout, StateLayer
from prfaas.engine.load_worker import ActiveLoad, LoadWorker
from prfaas.engine.load_writer import LoadWriter
from prfaas.engine.metadata import BlockIds, LoadStart
from prfaas.engine.save_worker import ActiveSave, SaveWorker
from prfaas.engine.settings import Settings
from prfaas.engine.worker_side import WorkerSide
from prfaas.transport.messages import LoadComplete, SlotPiece

RECORDS = "PRFAAS_TEST_RECORDS"
SKIP_STATE = "skip-state-"
LATE_STATE = "late-state-"


def record(side: str, transfer_id: str, layout: CacheLayout, blocks: BlockIds, num_tokens: int, held: int) -> None:
    """Append the checksums of a transfer's bytes as they lie in this side's cache."""
    if folder := os.environ.get(RECORDS):
        sums = {
            name: _checksum(layer, blocks, num_tokens, held)
            for name, layer in zip(layout.names, layout.layers, strict=True)
        }
        line = json.dumps({"transfer_id": transfer_id, "num_tokens": num_tokens, "held": held, "layers": sums})
        with (Path(folder) / f"{side}.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")  # one write of a whole line, which the reader never sees in part


def _checksum(layer: AttentionLayer | StateLayer, blocks: BlockIds, num_tokens: int, held: int) -> int:
    own = blocks[layer.group]
    total = 0
    if isinstance(layer, StateLayer):
        block = layer.state_block(own, num_tokens)
        for tensor in range(len(layer.tensor_bytes)):
            total = zlib.crc32(layer.tensor(block, tensor).tobytes(), total)
        return total
    # In fixed steps, so that both sides sum the same payloads whatever their block sizes.
    first = max(held, layer.first_needed(num_tokens))
    for token in range(first, num_tokens):
        out = np.empty(layer.bytes_of(1), dtype=np.uint8)
        layer.read(own, token, 1, out)
        total = zlib.crc32(out.tobytes(), total)
    return total


class RecordingSaveWorker(SaveWorker):
    def _advance(self, save: ActiveSave) -> None:
        was_ended = save.is_ended
        super()._advance(save)
        if save.is_ended and not was_ended:
            record("save", save.transfer_id, self._layout, save.block_ids, save.num_tokens, held=0)


class SkippingWriter(LoadWriter):
    def _write_state(self, layer: StateLayer, piece: SlotPiece, payload: Bytes) -> None:
        if self._start.transfer_id.startswith(f"{SKIP_STATE}{layer.index}-"):
            self.written[layer.index, piece.index].append((piece.first, piece.first + piece.length))
            return
        super()._write_state(layer, piece, payload)


class RecordingLoadWorker(LoadWorker):
    def _complete(self, load: ActiveLoad, message: LoadComplete) -> None:
        start = load.start
        super()._complete(load, message)
        record("load", start.transfer_id, self._layout, start.block_ids, start.num_tokens, start.held_tokens)

    def _make_writer(self, start: LoadStart) -> LoadWriter:
        return SkippingWriter(self._layout, start)


class RecordingWorkerSide(WorkerSide):
    def _make_roles(self, layout: CacheLayout, send_arena: torch.Tensor, receive_arena: torch.Tensor) -> None:
        self.saves = RecordingSaveWorker(layout, send_arena, self._send, self._clock, self._settings.lease_s)
        self.loads = RecordingLoadWorker(layout, receive_arena, self._send, self._clock)


class InstrumentedConnector(PrfaasConnector):
    """``PrfaasConnector`` with records and mutations."""

    def _make_worker_side(self, settings: Settings) -> WorkerSide:
        return RecordingWorkerSide(settings, self._vllm_config, self._kv_cache_config)

    def on_new_request(self, request: Request) -> None:
        params = (request.kv_transfer_params or {}).get("prfaas") or {}
        if str(params.get("transfer_id")).startswith(LATE_STATE) and params.get("role") == "prefill":
            self._offer_one_token_late(request)
        else:
            super().on_new_request(request)

    def _offer_one_token_late(self, request: Request) -> None:
        """Offer N - 1 tokens but compute N, as a connector would that forgets to shorten the prompt."""
        tokens, all_tokens = list(request.prompt_token_ids or ()), list(request._all_token_ids)
        super().on_new_request(request)
        request.prompt_token_ids[:] = tokens
        request._all_token_ids[:] = all_tokens
        saves = self.scheduler_side.saves
        saves._saves[request.request_id] = replace(saves._saves[request.request_id], request=_Shortened(request))
        request.num_prompt_tokens += 1


class _Shortened:
    """A request that claims one prompt token less than it computes."""

    def __init__(self, request: Request) -> None:
        self._request = request

    def __getattr__(self, name: str) -> object:
        value = getattr(self._request, name)
        return value - 1 if name == "num_prompt_tokens" else value
