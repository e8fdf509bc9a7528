"""What the scheduler side of the connector tells its workers, once a step.

Block ids come one tuple per *transfer group* (``KVCacheConfig.transfer_groups``); entry ``i`` of a group's tuple
holds the tokens ``i * block_size .. (i + 1) * block_size`` of that group, 0 is vLLM's null block.
"""

from dataclasses import dataclass, field

from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorHandshakeMetadata, KVConnectorMetadata

BlockIds = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class SaveStep:
    """Prefill side: this step computes tokens ``start .. end`` of a request whose cache goes to another site.

    Attributes:
        num_tokens: tokens of the whole hand-over (the prompt without its last token).
        block_ids: the request's blocks as they are after this step was scheduled.
    """

    request_id: str
    transfer_id: str
    start: int
    end: int
    num_tokens: int
    block_ids: BlockIds

    @property
    def is_last(self) -> bool:
        """Whether the prefill ends with this step, so that the recurrent state is final after it."""
        return self.end >= self.num_tokens


@dataclass(frozen=True)
class SaveFinish:
    """Prefill side: the engine is done with the request; report it once its blocks are no longer read.

    They are given up ``timeout_s`` seconds after this order, whatever has become of the transfer.
    """

    request_id: str
    transfer_id: str
    is_aborted: bool
    timeout_s: float


@dataclass(frozen=True)
class LoadStart:
    """Decode side: blocks are allocated; pieces of the transfer may be written into them.

    ``held_tokens`` of the attention rows are already valid and must not be written (their blocks are shared).
    """

    request_id: str
    transfer_id: str
    held_tokens: int
    num_tokens: int
    timeout_s: float
    block_ids: BlockIds


@dataclass(frozen=True)
class LoadCancel:
    """Decode side: the request is gone; stop writing, then report it as finished."""

    request_id: str
    transfer_id: str


@dataclass
class StepMetadata(KVConnectorMetadata):
    """One step's orders; loads and cancels are in the order they were decided.

    ``is_decoding`` says that the step computes output tokens, for which somebody waits.
    """

    is_decoding: bool = False
    save_steps: list[SaveStep] = field(default_factory=list)
    save_finishes: list[SaveFinish] = field(default_factory=list)
    load_starts: list[LoadStart] = field(default_factory=list)
    load_cancels: list[LoadCancel] = field(default_factory=list)


@dataclass(frozen=True)
class MoverAddress(KVConnectorHandshakeMetadata):
    """Where the scheduler side finds the mover that the worker side has started."""

    socket_path: str
