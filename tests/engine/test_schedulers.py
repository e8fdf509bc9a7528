"""The two scheduler-side roles with stand-ins for vLLM's requests: what they promise, send and forget."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from vllm.lora.request import LoRARequest
from vllm.v1.kv_cache_interface import SlidingWindowSpec
from vllm.v1.request import RequestStatus

from prfaas.clock import ManualClock
from prfaas.engine.adapters import UNKNOWN, Adapters
from prfaas.engine.budget import GroupShape, LoadBudget
from prfaas.engine.load_scheduler import WORKER_GRACE_S, LoadScheduler
from prfaas.engine.metadata import LoadCancel, StepMetadata
from prfaas.engine.params import TransferParams
from prfaas.engine.save_scheduler import SaveScheduler
from prfaas.engine.scheduler_side import SchedulerSide, build_budget
from prfaas.transport.messages import (
    Cancel,
    DeclineLoad,
    FromScheduler,
    LoadComplete,
    LoadFailed,
    OfferSave,
    OpenLoad,
    StartLoad,
)

BLOCK = 16
SAVES = "prfaas.engine.save_scheduler.SaveScheduler"
VLLM = cast(Any, SimpleNamespace(lora_config=None))
KNOWN_ADAPTER = LoRARequest("known", 1, "/adapters/known")


class OneAdapter(Adapters):
    """Of which the digest is known."""

    def __init__(self) -> None:
        self._digests = {("known", "/adapters/known"): "1f2e"}


ADAPTERS = OneAdapter()


@dataclass
class FakeRequest:
    """The fields of vLLM's request that the connector looks at."""

    request_id: str = "r"
    num_prompt_tokens: int = 100
    num_computed_tokens: int = 0
    num_preemptions: int = 0
    reads_no_cache: bool = False
    mm_features: tuple[object, ...] = ()
    prompt_embeds: object = None
    resumable: bool = False
    lora_request: object = None
    max_tokens: int = 50
    status: RequestStatus = RequestStatus.FINISHED_LENGTH_CAPPED
    prompt_token_ids: list[int] = field(default_factory=list)
    _all_token_ids: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.prompt_token_ids = list(range(self.num_prompt_tokens))
        self._all_token_ids = list(range(self.num_prompt_tokens))

    @property
    def num_tokens(self) -> int:
        return len(self._all_token_ids)

    def get_skip_reading_prefix_cache(self) -> bool:
        return self.reads_no_cache


def params(role: str = "decode", transfer_id: str = "t") -> TransferParams:
    return TransferParams(role, transfer_id, "s", 60.0, "host:1")  # type: ignore[arg-type]


@dataclass
class LoadRig:
    """A load scheduler whose pool has ``free`` blocks."""

    free: int = 1000
    limit: int = 500
    sent: list[FromScheduler] = field(default_factory=list)

    def __post_init__(self) -> None:
        budget = LoadBudget((GroupShape(BLOCK),), self.limit)
        self.clock, self.is_connected = ManualClock(), True
        self.loads = LoadScheduler(
            self.sent.append,
            lambda ids: ids,
            frozenset({BLOCK}),
            budget,
            lambda: self.is_connected,
            ADAPTERS,
            self.clock,
        )
        pool = SimpleNamespace(get_num_free_blocks=lambda: self.free)
        self.loads.bind(SimpleNamespace(block_pool=pool, watermark_blocks=0))

    def allocate(self, request: FakeRequest, external: int) -> StepMetadata:
        self.loads.allocated(request, SimpleNamespace(get_block_ids=lambda: ([1, 2, 3],)), external)
        return self.orders()

    def orders(self) -> StepMetadata:
        metadata = StepMetadata()
        self.loads.fill(metadata)
        return metadata


def test_a_load_dials_on_arrival_and_starts_with_its_blocks() -> None:
    """The mover hears of a load at once, and of what is held here when the blocks are there."""
    rig, request = LoadRig(), FakeRequest()
    rig.loads.arrive(request, params())
    assert rig.sent == [OpenLoad("t", "s", "host:1", 60.0)]
    assert rig.loads.match(request, 32) == 99 - 32
    start = rig.allocate(request, 67).load_starts[0]
    assert rig.sent[1:] == [StartLoad("t", 32, 99)]
    assert (start.held_tokens, start.num_tokens, start.block_ids) == (32, 99, ((1, 2, 3),))


def test_a_load_is_matched_once() -> None:
    """After its load, failed or not, a request hears "nothing" and is computed here."""
    rig, request = LoadRig(), FakeRequest()
    rig.loads.arrive(request, params())
    assert rig.loads.match(request, 0) == 99
    rig.allocate(request, 99)
    rig.loads.reported({"r"}, {"r"})
    assert rig.loads.match(request, 0) == 0
    assert rig.loads.finished(request) == {"transfer_id": "t", "held_tokens": 0, "ok": False}


@pytest.mark.parametrize(
    "request_",
    [
        FakeRequest(reads_no_cache=True),
        FakeRequest(mm_features=("image",)),
        FakeRequest(prompt_embeds="embeds"),
        FakeRequest(resumable=True),
        FakeRequest(lora_request=LoRARequest("other", 1, "/adapters/other")),
        FakeRequest(num_prompt_tokens=1),
        FakeRequest(num_prompt_tokens=BLOCK * 501),
    ],
    ids=["prompt logprobs", "image", "embeds", "session", "adapter", "one token", "larger than the share"],
)
def test_requests_that_cannot_be_loaded_stay_local(request_: FakeRequest) -> None:
    """Nothing is dialed or matched for a request that a load cannot serve, and the gateway hears so."""
    rig = LoadRig()
    rig.loads.arrive(request_, params())
    assert [type(message) for message in rig.sent] == [DeclineLoad]
    assert rig.loads.match(request_, 0) == 0


def test_a_load_names_the_adapter_that_it_is_computed_with() -> None:
    """Its digest, by which the prefill engine knows whether its cache fits."""
    rig = LoadRig()
    rig.loads.arrive(FakeRequest(lora_request=KNOWN_ADAPTER), params())
    assert rig.sent == [OpenLoad("t", "s", "host:1", 60.0, adapter="1f2e")]


def test_the_second_request_of_a_transfer_stays_local() -> None:
    """The children of n > 1 carry one transfer id: the first loads, the others compute."""
    rig = LoadRig()
    first, second = FakeRequest("a"), FakeRequest("b")
    rig.loads.arrive(first, params())
    rig.loads.arrive(second, params())
    assert (rig.loads.match(first, 0), rig.loads.match(second, 0)) == (99, 0)
    rig.loads.finished(second)
    assert rig.loads.match(first, 0) == 99


def test_a_full_budget_makes_the_scheduler_ask_again() -> None:
    """A load that does not fit now lets the requests behind it pass and fits later."""
    rig, first, second = LoadRig(limit=10), FakeRequest("a"), FakeRequest("b")
    rig.loads.arrive(first, params())
    rig.loads.arrive(second, params(transfer_id="u"))
    rig.loads.match(first, 0)
    rig.allocate(first, 99)
    assert rig.loads.match(second, 0) is None
    rig.loads.reported({"a"}, set())
    assert rig.loads.match(second, 0) == 99


def test_few_free_blocks_make_the_scheduler_ask_again() -> None:
    """Blocks that a half-computed local prompt still needs are not promised to a load."""
    rig, request = LoadRig(free=8), FakeRequest()
    rig.loads.arrive(request, params())
    assert rig.loads.match(request, 0) == 99
    rig.loads.arrive(FakeRequest("local", num_computed_tokens=32), None)
    assert rig.loads.match(request, 0) is None


def test_a_load_that_fails_on_the_way_is_the_workers_to_end() -> None:
    """The outcome says that it failed, and not why: the reason may name addresses, and clients read the outcome."""
    rig, request = LoadRig(), FakeRequest()
    rig.loads.arrive(request, params())
    rig.loads.match(request, 0)
    rig.allocate(request, 99)
    rig.loads.heard(LoadFailed("t", "corrupt"))
    rig.loads.reported({"r"}, {"r"})
    assert rig.loads.finished(request) == {"transfer_id": "t", "held_tokens": 0, "ok": False}


@pytest.mark.parametrize("what", ["too late", "no mover"])
def test_a_load_that_finds_no_room_in_time_is_computed_here(what: str) -> None:
    """A request waits for blocks no longer than its transfer may last, nor without a mover."""
    rig, request = LoadRig(free=0), FakeRequest()
    rig.loads.arrive(request, params())
    assert rig.loads.match(request, 0) is None
    if what == "too late":
        rig.clock.advance(60.1)
    else:
        rig.is_connected = False
    assert rig.loads.match(request, 0) == 0


def test_prompts_admitted_in_the_same_step_count() -> None:
    """A local prompt that has been given blocks but nothing computed yet keeps the blocks it still needs."""
    rig, request, local = LoadRig(free=8), FakeRequest(), FakeRequest("local")
    rig.loads.arrive(request, params())
    rig.loads.arrive(local, None)
    assert rig.loads.match(request, 0) == 99
    rig.loads.allocated(local, SimpleNamespace(get_block_ids=lambda: ([1],)), 0)
    assert rig.loads.match(request, 0) is None


def test_a_refused_transfer_is_computed_here_at_once() -> None:
    """When the mover reports a failure before the blocks are allocated, the request does not wait."""
    rig, request = LoadRig(free=0), FakeRequest()
    rig.loads.arrive(request, params())
    assert rig.loads.match(request, 0) is None
    rig.loads.heard(LoadFailed("t", "refused"))
    assert rig.loads.match(request, 0) == 0
    assert rig.loads.finished(request) == {"transfer_id": "t", "ok": False}


@pytest.mark.parametrize("local", [99, 33])
def test_local_hits_that_leave_nothing_to_load_cancel_the_transfer(local: int) -> None:
    """A hit on the whole prompt, or one that ends inside a block, is served locally."""
    rig, request = LoadRig(), FakeRequest()
    rig.loads.arrive(request, params())
    assert rig.loads.match(request, local) == 0
    assert isinstance(rig.sent[-1], Cancel)


def test_a_resumed_request_counts_until_its_output_is_computed_again() -> None:
    """vLLM reserves blocks for what a preempted request had already said, so they are not promised to a load."""
    rig, request, resumed = LoadRig(free=8), FakeRequest(), FakeRequest("resumed", num_computed_tokens=100)
    rig.loads.arrive(request, params())
    rig.loads.arrive(resumed, None)
    assert rig.loads.match(request, 0) == 99
    rig.orders()
    resumed._all_token_ids += range(40)
    assert rig.loads.match(request, 0) is None
    rig.orders()
    resumed.num_computed_tokens = 139
    assert rig.loads.match(request, 0) == 99


def test_requests_are_looked_through_once_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many loads wait for free blocks; and not at all while the loads' share is taken."""
    looks = list[object]()

    def reserve(*args: object) -> int:
        looks.append(args)
        return 0

    monkeypatch.setattr(LoadBudget, "reserve", reserve)
    rig, requests = LoadRig(free=0, limit=10), [FakeRequest(name) for name in "abc"]
    for request in requests:
        rig.loads.arrive(request, params(transfer_id=request.request_id))
    assert [rig.loads.match(request, 0) for request in requests] == [None] * 3
    assert len(looks) == 1
    rig.allocate(requests[0], 99)
    assert [rig.loads.match(request, 0) for request in requests[1:]] == [None] * 2
    assert len(looks) == 1


def test_a_load_that_the_worker_never_ends_is_cancelled() -> None:
    """An order that was lost on the way leaves no request waiting for ever; the worker is asked once."""
    rig, request = LoadRig(), FakeRequest()
    rig.loads.arrive(request, params())
    rig.clock.advance(50.0)
    rig.loads.match(request, 0)
    rig.allocate(request, 99)
    rig.clock.advance(60.0 + WORKER_GRACE_S)
    assert rig.orders().load_cancels == []
    rig.clock.advance(0.1)
    assert rig.orders().load_cancels == [LoadCancel("r", "t")]
    assert rig.orders().load_cancels == []


def scheduler_side() -> SchedulerSide:
    config = SimpleNamespace(kv_cache_groups=[], transfer_groups=[], num_blocks=100, select_transfer_block_ids=None)
    return SchedulerSide(cast(Any, SimpleNamespace(load_share=0.5, adapters={})), VLLM, cast(Any, config))


@pytest.mark.parametrize("broken", ["prfaas.engine.scheduler_side.SchedulerSide._poll", f"{SAVES}.scheduled"])
def test_orders_go_out_though_something_else_breaks(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that does not reach the worker would leave its request waiting."""
    side, order = scheduler_side(), LoadCancel("r", "t")
    monkeypatch.setattr(broken, None)
    side.loads._cancels.append(order)
    assert side.step(cast(Any, SimpleNamespace(num_scheduled_tokens={}))).load_cancels == [order]


def test_windows_are_reserved_for_as_vllm_reserves() -> None:
    """A prefill in chunks holds its window and the chunks that are on their way, a load the window alone."""
    spec = SlidingWindowSpec(block_size=16, num_kv_heads=1, head_size=8, dtype=torch.bfloat16, sliding_window=64)
    groups = [SimpleNamespace(kv_cache_spec=spec)]
    vllm = SimpleNamespace(max_in_flight_tokens=512, model_config=SimpleNamespace(max_model_len=4096))
    config = SimpleNamespace(kv_cache_groups=groups, num_blocks=1000)
    budget = build_budget(0.5, cast(Any, vllm), cast(Any, config))
    assert budget.reserve([(4000, 16)]) == spec.max_admission_blocks_per_request(512, 4096) - 1 + 1
    assert budget.blocks_for(4000) == 64 // 16 + 2


@pytest.mark.parametrize(("computed", "is_decoding"), [(0, False), (99, False), (100, True), (130, True)])
def test_a_step_decodes_when_a_prompt_lies_behind_it(computed: int, is_decoding: bool) -> None:
    """Chunks of prompts alone keep nobody waiting for a token."""
    rig = LoadRig()
    rig.loads.arrive(FakeRequest("a", num_computed_tokens=computed), None)
    rig.loads.arrive(FakeRequest("b", num_computed_tokens=100), None)
    assert rig.loads.is_decoding(["a"]) is is_decoding
    assert not rig.loads.is_decoding(["unknown"])


def test_an_abort_before_the_start_only_hangs_up() -> None:
    """No block was given, so the worker has nothing to report."""
    rig, request = LoadRig(), FakeRequest()
    rig.loads.arrive(request, params())
    rig.loads.finished(request)
    assert isinstance(rig.sent[-1], Cancel)
    assert rig.orders() == StepMetadata()


def test_an_abort_during_a_load_is_the_workers_to_end() -> None:
    """Blocks are being written: the order to stop goes to the worker, and the budget is kept until it reports."""
    rig, request = LoadRig(limit=10), FakeRequest()
    rig.loads.arrive(request, params())
    rig.loads.match(request, 0)
    rig.allocate(request, 99)
    rig.loads.finished(request)
    assert [cancel.request_id for cancel in rig.orders().load_cancels] == ["r"]
    late = FakeRequest("late")
    rig.loads.arrive(late, params(transfer_id="u"))
    assert rig.loads.match(late, 0) is None
    rig.loads.reported({"r"}, {"r"})
    assert rig.loads.match(late, 0) == 99


def test_the_outcome_says_what_was_used() -> None:
    """A response of a loaded request carries the bytes that came, and how many came early."""
    rig, request = LoadRig(), FakeRequest()
    rig.loads.arrive(request, params())
    rig.loads.match(request, 0)
    rig.allocate(request, 99)
    rig.loads.heard(LoadComplete("t", 99, 1000, 900))
    rig.loads.reported({"r"}, set())
    assert rig.loads.finished(request) == {
        "transfer_id": "t",
        "held_tokens": 0,
        "cache_bytes": 1000,
        "early_bytes": 900,
        "ok": True,
    }


def output(request: FakeRequest, count: int) -> Any:
    state = SimpleNamespace(get_block_ids=lambda _: ([4, 5],))
    return SimpleNamespace(num_scheduled_tokens={request.request_id: count}, kv_connector_block_state=state)


def test_a_save_shortens_the_prompt_and_offers_it() -> None:
    """The last token is left to the decode side, whose state must not take it in twice."""
    sent: list[FromScheduler] = []
    request = FakeRequest()
    SaveScheduler(sent.append, lambda ids: ids, ADAPTERS).arrive(request, params("prefill"))
    assert (request.num_prompt_tokens, request.num_tokens, len(request.prompt_token_ids)) == (99, 99, 99)
    assert request.max_tokens == 1
    assert sent == [OfferSave("t", "s", 99, 60.0)]


@pytest.mark.parametrize(
    ("adapter", "digest"),
    [(KNOWN_ADAPTER, "1f2e"), (LoRARequest("known", 1, "/elsewhere"), UNKNOWN)],
    ids=["known", "other folder"],
)
def test_an_offer_names_the_adapter_that_it_was_computed_with(adapter: LoRARequest, digest: str) -> None:
    """One that nobody can vouch for is offered under a name that nobody asks for: so the other side hears at once."""
    sent: list[FromScheduler] = []
    request = FakeRequest(lora_request=adapter)
    SaveScheduler(sent.append, lambda ids: ids, ADAPTERS).arrive(request, params("prefill"))
    assert sent == [OfferSave("t", "s", 99, 60.0, adapter=digest)]


def test_save_steps_follow_the_chunks() -> None:
    """Each step says what it computes, the last one that the state is final after it."""
    saves, request, metadata = SaveScheduler(lambda _: None, lambda ids: ids, ADAPTERS), FakeRequest(), StepMetadata()
    saves.arrive(request, params("prefill"))
    saves.scheduled(output(request, 64), metadata)
    request.num_computed_tokens = 64
    saves.scheduled(output(request, 35), metadata)
    assert [(s.start, s.end, s.is_last) for s in metadata.save_steps] == [(0, 64, False), (64, 99, True)]
    assert metadata.save_steps[0].block_ids == ((4, 5),)


@pytest.mark.parametrize(
    ("status", "is_aborted"),
    [
        (RequestStatus.FINISHED_LENGTH_CAPPED, False),
        (RequestStatus.FINISHED_STOPPED, False),
        (RequestStatus.FINISHED_ABORTED, True),
    ],
)
def test_finished_saves_keep_their_blocks_for_the_worker(status: RequestStatus, is_aborted: bool) -> None:
    """Blocks of a save that has run are kept until the worker's word, also after an abort."""
    sent: list[FromScheduler] = []
    saves, request = SaveScheduler(sent.append, lambda ids: ids, ADAPTERS), FakeRequest(status=status)
    saves.arrive(request, params("prefill"))
    saves.scheduled(output(request, 64), StepMetadata())
    assert saves.finished(request)
    assert any(isinstance(message, Cancel) for message in sent) is is_aborted
    saves.scheduled(output(FakeRequest("other"), 1), metadata := StepMetadata())
    assert [(f.request_id, f.is_aborted) for f in metadata.save_finishes] == [("r", is_aborted)]


def test_a_save_that_never_ran_keeps_nothing() -> None:
    """A prefill request aborted in the queue has no blocks to keep."""
    saves, request = (
        SaveScheduler(lambda _: None, lambda ids: ids, ADAPTERS),
        FakeRequest(status=RequestStatus.FINISHED_ABORTED),
    )
    saves.arrive(request, params("prefill"))
    assert not saves.finished(request)


def test_the_same_offer_twice_is_served_plainly() -> None:
    """A second prefill request of a transfer keeps its whole prompt and sends nothing."""
    sent: list[FromScheduler] = []
    saves = SaveScheduler(sent.append, lambda ids: ids, ADAPTERS)
    saves.arrive(FakeRequest("a"), params("prefill"))
    second = FakeRequest("b")
    saves.arrive(second, params("prefill"))
    assert second.num_tokens == 100
    assert len(sent) == 1


def test_an_id_is_taken_until_the_workers_have_done_with_it() -> None:
    """A second request with the id of a transfer that is still being copied would mix two prompts in one cache."""
    saves, first = SaveScheduler(lambda _: None, lambda ids: ids, ADAPTERS), FakeRequest("a")
    saves.arrive(first, params("prefill"))
    saves.scheduled(output(first, 99), StepMetadata())
    saves.finished(first)
    second, third = FakeRequest("b"), FakeRequest("c")
    saves.arrive(second, params("prefill"))
    assert second.num_tokens == 100
    saves.reported({"a", "unknown"})
    saves.arrive(third, params("prefill"))
    assert third.num_tokens == 99
