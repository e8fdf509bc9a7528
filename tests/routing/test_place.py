"""Who gets a request: filters, the order of the ways, what is kept for later."""

from typing import Any

import pytest

from prfaas.routing.place import place
from prfaas.routing.placement import Refusal
from prfaas.routing.policy import Policy, Weights
from prfaas.routing.snapshot import EngineState, LinkState, RequestFeatures
from tests.routing.fleets import LONG, decoder, engines_of, fleet, link, neighbour, placed, prefiller

POLICY = Policy(threshold_tokens=512)
ADAPTED = RequestFeatures(513, adapter="fr")
FR: dict[str, Any] = {"adapters": frozenset({"fr"})}


def test_long_prompt_goes_remote() -> None:
    """A prompt above the threshold is prefilled by the linked site and decoded here."""
    placement = placed(place(LONG, fleet(decoder(), prefiller()), POLICY))
    assert engines_of(placement) == ("remote", "edge-0", "cloud-0")
    assert placement.reasons == ("513 prompt tokens are above the threshold of 512",)
    assert (placement.is_remote, placement.is_handed_over, placement.prefill_engine) == (True, True, "cloud-0")


@pytest.mark.parametrize(
    ("features", "engines", "links", "reason"),
    [
        (RequestFeatures(512), (decoder(), prefiller()), (link(),), "within the threshold"),
        (RequestFeatures(1), (decoder(), prefiller()), (link(),), "nothing to prefill elsewhere"),
        (RequestFeatures(None), (decoder(), prefiller()), (link(),), "known to the engine only"),
        (RequestFeatures(None, max_tokens=513), (decoder(), prefiller()), (link(),), "known to the engine only"),
        (RequestFeatures(None, max_tokens=512), (decoder(), prefiller()), (link(),), "at most 512 prompt tokens"),
        (RequestFeatures(9999, ("n > 1",)), (decoder(), prefiller()), (link(),), "n > 1"),
        (RequestFeatures(900, hits={"edge-0": 388}), (decoder(), prefiller()), (link(),), "512 of 900 prompt tokens"),
        (RequestFeatures(1, hits={"edge-0": 1}), (decoder(), prefiller()), (link(),), "nothing to prefill elsewhere"),
        (LONG, (decoder(), prefiller()), (), "no link leads to site edge"),
        (LONG, (decoder(), prefiller()), (link("edge", "cloud"),), "no link leads to site edge"),
        (LONG, (decoder(), prefiller()), (link(is_broken=True),), "the link from cloud is broken"),
        (LONG, (decoder(), prefiller()), (link(budget_left_bytes=0),), "0.0 MB left of its egress budget"),
        (LONG, (decoder(), prefiller(is_healthy=False)), (link(),), "no healthy prefill engine"),
        (LONG, (decoder(), prefiller(is_draining=True)), (link(),), "no healthy prefill engine"),
        (LONG, (decoder(), prefiller(is_broken=True)), (link(),), "no healthy prefill engine"),
        (LONG, (decoder(), prefiller(capacity=2, inflight=2)), (link(),), "no healthy prefill engine"),
        (LONG, (decoder(), prefiller(can_prefill=False)), (link(),), "no healthy prefill engine"),
        (LONG, (decoder(), decoder("edge-1")), (link(),), "no healthy prefill engine"),
        (LONG, (decoder(), prefiller(site="moon")), (link(),), "no healthy prefill engine"),
        (LONG, (decoder(is_healthy=False), prefiller()), (link(),), "no local engine is known"),
        (RequestFeatures(513, tenant_sites=frozenset({"edge"})), (decoder(), prefiller()), (link(),), "may not use"),
        (ADAPTED, (decoder(), prefiller(adapters=frozenset())), (link(),), "in a linked site has the adapter fr"),
        (ADAPTED, (decoder(), prefiller(adapters=frozenset({"de"}))), (link(),), "in a linked site has the adapter fr"),
    ],
)
def test_what_keeps_a_request_local(
    features: RequestFeatures, engines: tuple[EngineState, ...], links: tuple[LinkState, ...], reason: str
) -> None:
    """Everything that speaks against a remote prefill keeps the request here and says so."""
    placement = placed(place(features, fleet(*engines, links=links), POLICY))
    assert placement.kind == "local"
    assert any(reason in given for given in placement.reasons), placement.reasons


def test_engines_that_lack_the_adapter_are_passed_over() -> None:
    """Whatever they do: decode, prefill here or prefill elsewhere. One that has not been asked may have it."""
    lacking = [decoder("edge-a", adapters=frozenset()), neighbour("edge-pa", adapters=frozenset())]
    having = [decoder("edge-b", inflight=5, **FR), neighbour("edge-pb", inflight=5, **FR)]
    far = [prefiller("cloud-a", adapters=frozenset({"de"})), prefiller("cloud-b", inflight=5, **FR)]
    engines = fleet(*lacking, *having, *far)
    placement = placed(place(ADAPTED, engines, POLICY))
    assert engines_of(placement) == ("remote", "edge-b", "cloud-b")
    tried = {engine for way in placement.alternatives for engine in (way.decode, way.prefill)}
    assert tried == {"edge-b", "edge-pb", None}
    assert engines_of(placed(place(LONG, engines, POLICY))) == ("remote", "edge-a", "cloud-a")
    unasked = fleet(decoder(is_healthy=False), prefiller())
    assert placed(place(ADAPTED, unasked, POLICY)).decode == "edge-0"


def test_least_loaded_engines_are_chosen() -> None:
    """Load decides at both sites; a healthy engine goes before an idle one that is not."""
    engines = (
        decoder("edge-0", inflight=2),
        decoder("edge-1", inflight=1),
        decoder("edge-2", is_healthy=False),
        prefiller("cloud-0", inflight=1),
        prefiller("cloud-1"),
    )
    assert engines_of(placed(place(LONG, fleet(*engines), POLICY))) == ("remote", "edge-1", "cloud-1")


def test_equal_engines_take_turns() -> None:
    """Idle engines get requests one after the other."""
    engines = (decoder("edge-0"), decoder("edge-1"), decoder("edge-2"))
    chosen = [placed(place(LONG, fleet(*engines, turn=turn), POLICY)).decode for turn in range(4)]
    assert chosen == ["edge-0", "edge-1", "edge-2", "edge-0"]


@pytest.mark.parametrize(
    ("busy", "weights", "chosen"),
    [
        ({"inflight": 1}, Weights(), "edge-0"),
        ({"inflight": 1}, Weights(prefix=0), "edge-1"),
        ({"inflight": 1}, Weights(prefix=0.2), "edge-1"),
        ({"inflight": 1, "waiting_tokens": 8192}, Weights(prefix=0.9), "edge-1"),
        ({"inflight": 1, "waiting_tokens": 8192}, Weights(prefix=0.9, queue=0), "edge-0"),
    ],
)
def test_prefix_is_weighed_against_load(busy: dict[str, Any], weights: Weights, chosen: str) -> None:
    """Of a busy engine that has nine tenths of the prompt and an idle one that has none the weights choose."""
    engines = (decoder("edge-0", **busy), decoder("edge-1"))
    features = RequestFeatures(400, hits={"edge-0": 360})
    assert placed(place(features, fleet(*engines), Policy(weights=weights))).decode == chosen


@pytest.mark.parametrize(
    ("requests", "chosen"),
    [
        ((9, 4, 4), "edge-0"),
        ((10, 4, 4), "edge-1"),
        ((50, 40, 40), "edge-0"),
        ((80, 40, 40), "edge-1"),
        ((3, 0, 0), "edge-0"),
    ],
)
def test_affinity_ends_at_more_than_a_fair_share(requests: tuple[int, ...], chosen: str) -> None:
    """1.25 times the mean and two more is the most: 9.08 of 9, 4 and 4 requests, and 9.5 of 10, 4 and 4."""
    engines = [decoder(f"edge-{at}", inflight=each) for at, each in enumerate(requests)]
    features = RequestFeatures(400, hits={"edge-0": 399})
    assert placed(place(features, fleet(*engines), POLICY)).decode == chosen


def test_a_crowded_engine_is_still_one_to_fall_back_to() -> None:
    """Nothing that takes requests is left out."""
    engines = (decoder("edge-0", inflight=90), decoder("edge-1"))
    placement = placed(place(RequestFeatures(400, hits={"edge-0": 399}), fleet(*engines), POLICY))
    assert [way.decode for way in placement.alternatives] == ["edge-0"]


@pytest.mark.parametrize(
    ("states", "chosen"),
    [
        (({}, {"inflight": 1}), "edge-0"),
        (({"capacity": 3, "inflight": 3}, {"inflight": 9}), "edge-1"),
        (({"capacity": 3, "inflight": 3}, {"is_healthy": False}), "edge-0"),
        (({"is_healthy": False, "inflight": 2}, {"is_healthy": False}), "edge-1"),
        (({"is_draining": True}, {"is_healthy": False}), "edge-1"),
        (({"is_broken": True}, {"inflight": 9}), "edge-1"),
    ],
)
def test_decode_engines_with_room_come_first(states: tuple[dict[str, Any], dict[str, Any]], chosen: str) -> None:
    """First healthy ones with room, then full ones, where it queues, then those nobody knows well of."""
    engines = [decoder(f"edge-{at}", **state) for at, state in enumerate(states)]
    assert placed(place(RequestFeatures(9), fleet(*engines), POLICY)).decode == chosen


@pytest.mark.parametrize(
    ("features", "engines", "status", "reason"),
    [
        (LONG, (decoder(is_draining=True), prefiller()), 503, "no decode engine of site edge takes requests"),
        (LONG, (decoder(is_broken=True),), 503, "no decode engine of site edge takes requests"),
        (ADAPTED, (decoder(adapters=frozenset()), prefiller(**FR)), 503, "no decode engine of site edge has"),
        (ADAPTED, (decoder(adapters=frozenset()), decoder(is_broken=True, **FR)), 503, "takes requests"),
        (RequestFeatures(9, tenant_sites=frozenset({"cloud"})), (decoder(),), 403, "may not use site edge"),
    ],
)
def test_nobody_gets_what_nobody_may(
    features: RequestFeatures, engines: tuple[EngineState, ...], status: int, reason: str
) -> None:
    """Without a decode engine that takes requests, or with a tenant of other sites, the request is refused."""
    refusal = place(features, fleet(*engines), POLICY)
    assert isinstance(refusal, Refusal)
    assert refusal.status == status
    assert reason in refusal.reason


@pytest.mark.parametrize(
    ("tokens", "decode", "neighbours", "chosen"),
    [
        (500, {"can_prefill": False}, [{}], "edge-p0"),
        (500, {"can_prefill": False}, [{"inflight": 3}, {}], "edge-p1"),
        (128, {"can_prefill": False}, [{}], None),
        (500, {"can_prefill": False}, [{"is_draining": True}], None),
        (500, {}, [{"inflight": 1}], None),
        (500, {"inflight": 2}, [{}], "edge-p0"),
    ],
)
def test_prefill_engines_of_the_site(
    tokens: int, decode: dict[str, Any], neighbours: list[dict[str, Any]], chosen: str | None
) -> None:
    """A decode engine takes a cache from a prefill engine beside it where that is better and worth a hand-over."""
    beside = [neighbour(f"edge-p{at}", **state) for at, state in enumerate(neighbours)]
    placement = placed(place(RequestFeatures(tokens), fleet(decoder(**decode), *beside), POLICY))
    assert engines_of(placement) == ("local", "edge-0", chosen)
    assert placement.is_handed_over == (chosen is not None)
    assert not placement.is_remote


def test_lonely_decode_engine_says_that_it_prefills() -> None:
    """A decode engine without a free prefill engine does the work, and the reasons tell the operator."""
    placement = placed(place(RequestFeatures(500), fleet(decoder(can_prefill=False)), POLICY))
    assert placement.reasons[-1] == "no prefill engine of the site is free: edge-0 prefills, too"


def test_cached_prompts_are_not_handed_over() -> None:
    """Where all but the last token is cached nobody else has anything to do, even without thresholds."""
    engines = (decoder(can_prefill=False), neighbour(), prefiller())
    features = RequestFeatures(900, hits={"edge-0": 899})
    placement = placed(place(features, fleet(*engines), Policy(threshold_tokens=0, hand_over_min_tokens=0)))
    assert (placement.prefill, placement.reasons) == (None, ("all prompt tokens but the last are cached here",))


def test_requests_that_load_nothing_stay_on_one_engine() -> None:
    """What keeps a request from loading a cache holds for the engine next door, too."""
    engines = (decoder(can_prefill=False), neighbour())
    assert placed(place(RequestFeatures(500, ("n > 1",)), fleet(*engines), POLICY)).prefill is None


def test_alternatives_go_from_far_to_near() -> None:
    """After a remote prefill: a further site, the same site, the engine next door, the decode engine, another one."""
    engines = (
        *(decoder("edge-0"), decoder("edge-1", inflight=1), neighbour("edge-p", inflight=1)),
        *(prefiller("cloud-0"), prefiller("cloud-1", inflight=1), prefiller("moon-0", site="moon", inflight=5)),
    )
    placement = placed(place(LONG, fleet(*engines, links=(link(), link("moon"))), POLICY))
    assert engines_of(placement) == ("remote", "edge-0", "cloud-0")
    assert [(way.decode, way.prefill) for way in placement.alternatives] == [
        ("edge-0", "moon-0"),
        ("edge-0", "cloud-1"),
        ("edge-0", None),
        ("edge-0", "edge-p"),
        ("edge-1", None),
    ]
    assert [way.prefill for way in placement.candidates] == ["cloud-0", None, "edge-p", "moon-0"]


def test_local_placement_has_another_engine_to_go_to() -> None:
    """When the decode engine fails the request may go to the next best one."""
    placement = placed(place(RequestFeatures(9), fleet(decoder("edge-0"), decoder("edge-1", inflight=1)), POLICY))
    assert [(way.decode, way.prefill) for way in placement.alternatives] == [("edge-1", None)]


def test_candidates_tell_what_they_cost() -> None:
    """Each carries the tokens to compute; a hit never covers the last token."""
    features = RequestFeatures(1000, hits={"edge-0": 100, "cloud-0": 5000})
    placement = placed(place(features, fleet(decoder(), prefiller()), POLICY))
    assert [way.uncached_tokens for way in placement.candidates] == [1, 900]
    assert placement.uncached_tokens == 1
