"""Local or remote: the threshold, the prediction, the objective, scarce links and brown-outs."""

from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from prfaas.routing.figures import CacheSize
from prfaas.routing.place import place
from prfaas.routing.placement import Refusal
from prfaas.routing.policy import BrownOut, Policy
from prfaas.routing.snapshot import RequestFeatures
from tests.routing.fleets import CACHE, FAST, SLOW, decoder, engines_of, fleet, link, neighbour, placed, prefiller

THRESHOLD = Policy(threshold_tokens=512)
PREDICTIVE = Policy(name="predictive", threshold_tokens=512)
FOUR_THOUSAND = RequestFeatures(4_000)
PAIR = (decoder(prefill=SLOW), prefiller(prefill=FAST))
"""4,000 tokens take 4.5 s here; elsewhere 0.5 s, and with their transfer 0.53 s."""


@pytest.mark.parametrize(
    ("hits", "is_scarce", "kind", "reason"),
    [
        ({}, False, "remote", "1000 prompt tokens are above the threshold of 512"),
        ({"edge-0": 400}, False, "remote", "600 of 1000 prompt tokens are not cached, above the threshold of 512"),
        ({"edge-0": 488}, False, "local", "512 of 1000 prompt tokens are not cached, within the threshold of 512"),
        ({"edge-0": 488}, True, "local", "512 of 1000 prompt tokens are not cached, within the threshold of 512"),
        ({"cloud-0": 300}, False, "remote", "700 of 1000 prompt tokens are not cached, above the threshold of 512"),
        ({"cloud-0": 300}, True, "remote", "1000 prompt tokens are above the threshold of 512"),
        ({"cloud-0": 900}, False, "remote", "cloud-0 has 900 of 1000 prompt tokens cached: they move here"),
        ({"cloud-0": 900}, True, "remote", "1000 prompt tokens are above the threshold of 512"),
        ({"cloud-0": 900, "edge-0": 500}, False, "local", "within the threshold of 512"),
    ],
)
def test_which_cache_counts(hits: dict[str, int], is_scarce: bool, kind: str, reason: str) -> None:
    """While the link is scarce only the cache here shortens a prompt; else the longer of both does, and what only the
    other site has is moved."""
    features = RequestFeatures(1000, hits=hits)
    placement = placed(place(features, fleet(decoder(), prefiller(), links=(link(is_scarce=is_scarce),)), THRESHOLD))
    assert placement.kind == kind
    assert reason in placement.reasons[0]
    assert ("the link from cloud is scarce: only the cache here counts" in placement.reasons) == (
        is_scarce and kind == "remote"
    )


@pytest.mark.parametrize(
    ("scarce_threshold", "is_scarce", "kind"),
    [
        (None, True, "remote"),
        (2000, True, "local"),
        (2000, False, "remote"),
        (999, True, "remote"),
        (100, True, "remote"),
    ],
)
def test_scarce_link_may_have_a_threshold_of_its_own(scarce_threshold: int | None, is_scarce: bool, kind: str) -> None:
    """It takes the place of the other while the link is scarce, and never lowers it."""
    policy = replace(THRESHOLD, scarce_threshold_tokens=scarce_threshold)
    snapshot = fleet(decoder(), prefiller(), links=(link(is_scarce=is_scarce),))
    assert placed(place(RequestFeatures(1000), snapshot, policy)).kind == kind


def test_other_site_takes_over_from_a_scarce_link() -> None:
    """With two links the idle one is preferred, and the only one when the other's threshold is not reached."""
    engines = (decoder(), prefiller("cloud-0"), prefiller("moon-0", site="moon"))
    links = (link(is_scarce=True, utilisation=0.9), link("moon"))
    for policy in (THRESHOLD, replace(THRESHOLD, scarce_threshold_tokens=2000)):
        assert placed(place(RequestFeatures(1000), fleet(*engines, links=links), policy)).prefill == "moon-0"


def test_budget_holds_what_would_cross() -> None:
    """A transfer that does not fit what is left of the budget is not begun; tokens held here need not cross."""
    links = (link(budget_left_bytes=4_500_000),)
    kinds = [
        placed(
            place(RequestFeatures(4_000, hits=hits), fleet(decoder(), prefiller(), links=links, cache=CACHE), THRESHOLD)
        )
        for hits in ({}, {"edge-0": 600})
    ]
    assert [each.kind for each in kinds] == ["local", "remote"]
    assert "4.5 MB left of its egress budget" in kinds[0].reasons[0]


@pytest.mark.parametrize(
    ("changes", "kind", "reason"),
    [
        ({}, "remote", "the first token is predicted in 0.53 s by way of cloud, in 4.50 s here"),
        ({"queued_bytes": 3e8}, "remote", "in 3.07 s by way of cloud, in 4.50 s here"),
        ({"queued_bytes": 4e8}, "local", "in 4.07 s by way of cloud, in 4.50 s here: no gain above the margin of 10%"),
        ({"goodput_bytes_s": 1e6}, "local", "in 5.02 s by way of cloud"),
        ({"rtt_s": 4.0}, "local", "in 4.53 s by way of cloud"),
    ],
)
def test_prediction_decides(changes: dict[str, Any], kind: str, reason: str) -> None:
    """Remote only where the first token is predicted sooner by the margin; queues, rates and round trips count."""
    snapshot = fleet(*PAIR, links=(link(**changes),), cache=CACHE)
    placement = placed(place(FOUR_THOUSAND, snapshot, PREDICTIVE))
    assert placement.kind == kind
    assert reason in placement.reasons[0], placement.reasons


def test_queue_of_the_engine_counts() -> None:
    """The least predicted time chooses among engines elsewhere, the cache they have included."""
    engines = (
        decoder(prefill=SLOW),
        prefiller("cloud-0", prefill=FAST, waiting_tokens=20_000),
        prefiller("cloud-1", prefill=FAST, inflight=7),
        prefiller("cloud-2", prefill=SLOW),
    )
    placement = placed(place(FOUR_THOUSAND, fleet(*engines, cache=CACHE), PREDICTIVE))
    assert placement.prefill == "cloud-1"
    cached = RequestFeatures(4_000, hits={"cloud-2": 3_999})
    assert placed(place(cached, fleet(*engines[:2], engines[3], cache=CACHE), PREDICTIVE)).prefill == "cloud-2"


def test_short_prompts_are_not_predicted() -> None:
    """Within the threshold a prompt stays, however slow the engines here are."""
    assert placed(place(RequestFeatures(512), fleet(*PAIR, cache=CACHE), PREDICTIVE)).kind == "local"


@pytest.mark.parametrize(
    ("here", "there", "prefill", "unknown"),
    [(None, FAST, "cloud-0", "edge-0"), (SLOW, None, "cloud-0", "cloud-0")],
)
def test_what_cannot_be_predicted_is_left_to_the_threshold(here: Any, there: Any, prefill: str, unknown: str) -> None:
    """An engine of unknown speed is decided on by the prompt's length, and the reasons name it."""
    snapshot = fleet(decoder(prefill=here), prefiller(prefill=there), cache=CACHE)
    placement = placed(place(FOUR_THOUSAND, snapshot, PREDICTIVE))
    assert placement.prefill == prefill
    assert placement.reasons[-1] == f"nothing is predicted: how fast {unknown} is, is unknown"


def test_unknown_engine_is_tried_before_one_that_loses() -> None:
    """Of two engines elsewhere the unknown one is asked; when its link is out, the other's prediction decides."""
    engines = (decoder(prefill=FAST), prefiller(prefill=SLOW), prefiller("moon-0", site="moon"))
    moon = link("moon")
    for way, prefill in ((moon, "moon-0"), (structs.replace(moon, is_broken=True), None)):
        snapshot = fleet(*engines, links=(link(), way), cache=CACHE)
        assert placed(place(FOUR_THOUSAND, snapshot, PREDICTIVE)).prefill == prefill


def test_unknown_size_of_the_cache_is_told() -> None:
    """Without it the transfer's time is left out of the prediction, and the reasons say so."""
    placement = placed(place(FOUR_THOUSAND, fleet(*PAIR), PREDICTIVE))
    assert placement.first_token_s == pytest.approx(0.52)
    assert placement.reasons[-1] == "the transfer's time is left out: the cache's size is unknown"


def test_prediction_within_the_site() -> None:
    """A faster prefill engine next door is used, and may beat the other site."""
    engines = (*PAIR, neighbour(prefill=FAST))
    placement = placed(place(FOUR_THOUSAND, fleet(*engines, cache=CACHE), PREDICTIVE))
    assert engines_of(placement) == ("local", "edge-0", "edge-p")


@pytest.mark.parametrize(
    ("slo_s", "queued_bytes", "here", "kind"),
    [
        (None, 3e8, FAST, "remote"),
        (1.0, 0, FAST, "remote"),
        (1.0, 3e8, FAST, "local"),
        (1.0, 3e8, SLOW, "remote"),
        (1.0, 5e8, SLOW, "local"),
        (1.0, 3e8, None, "local"),
        (4.0, 3e8, FAST, "remote"),
    ],
)
def test_late_remote_prefill_is_not_begun(slo_s: float | None, queued_bytes: float, here: Any, kind: str) -> None:
    """When a remote prefill is predicted to miss the objective the request stays, unless it were later still here."""
    snapshot = fleet(
        decoder(prefill=here), prefiller(prefill=FAST), links=(link(queued_bytes=queued_bytes),), cache=CACHE
    )
    by_policy = place(FOUR_THOUSAND, snapshot, replace(THRESHOLD, slo_first_token_s=slo_s))
    by_request = place(RequestFeatures(4_000, first_token_slo_s=slo_s), snapshot, THRESHOLD)
    assert placed(by_policy).kind == placed(by_request).kind == kind
    if kind == "local":
        assert "too late for the objective of 1 s" in placed(by_policy).reasons[0]


def test_busy_decode_engine_refuses_long_prompts() -> None:
    """A long prompt that nobody else can prefill is refused when the batch is full, with the time to try again."""
    busy = decoder(decode_load=0.95, prefill=SLOW, waiting_tokens=5_200)
    refusal = place(FOUR_THOUSAND, fleet(busy, links=()), THRESHOLD)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.retry_after_s) == (429, 6)
    assert (
        "no link leads to site edge; brown-out: computing 4000 tokens would starve decoding on edge-0" in refusal.reason
    )
    assert "edge-0" not in refusal.message


@pytest.mark.parametrize(
    ("features", "decode", "limits"),
    [
        (RequestFeatures(512), {"decode_load": 1.0}, BrownOut()),
        (FOUR_THOUSAND, {"decode_load": 0.94}, BrownOut()),
        (FOUR_THOUSAND, {"decode_load": 1.0}, BrownOut(decode_load=None)),
        (FOUR_THOUSAND, {"waiting_tokens": 10_000}, BrownOut()),
        (FOUR_THOUSAND, {"waiting_tokens": 9_999}, BrownOut(waiting_tokens=10_000)),
        (RequestFeatures(None, min_tokens=512), {"decode_load": 1.0}, BrownOut()),
        (RequestFeatures(4_000, hits={"edge-0": 3_600}), {"decode_load": 1.0}, BrownOut()),
    ],
)
def test_nobody_is_refused_without_need(features: RequestFeatures, decode: dict[str, Any], limits: BrownOut) -> None:
    """Short prompts, short rests of cached ones and engines below the limits go on."""
    placed(place(features, fleet(decoder(**decode), links=()), replace(THRESHOLD, brown_out=limits)))


@pytest.mark.parametrize(
    ("features", "decode", "limits"),
    [
        (FOUR_THOUSAND, {"waiting_tokens": 10_000}, BrownOut(waiting_tokens=10_000)),
        (RequestFeatures(None, min_tokens=513), {"decode_load": 1.0}, BrownOut()),
        (RequestFeatures(4_000, ("n > 1",)), {"decode_load": 1.0}, BrownOut()),
    ],
)
def test_other_reasons_to_refuse(features: RequestFeatures, decode: dict[str, Any], limits: BrownOut) -> None:
    """Waiting tokens have a limit, too; a prompt known to be long counts, and what must not leave is no exception."""
    refusal = place(features, fleet(decoder(**decode), prefiller(), links=()), replace(THRESHOLD, brown_out=limits))
    assert isinstance(refusal, Refusal)
    assert 1 <= (refusal.retry_after_s or 0) <= 30


def test_brown_out_looks_for_relief_first() -> None:
    """A prefill engine next door or another decode engine takes the prompt before it is refused."""
    busy = decoder("edge-0", decode_load=1.0)
    other = decoder("edge-1", decode_load=0.5, inflight=9)
    beside = placed(place(FOUR_THOUSAND, fleet(busy, neighbour(inflight=9), links=()), THRESHOLD))
    assert engines_of(beside) == ("local", "edge-0", "edge-p")
    moved = placed(place(FOUR_THOUSAND, fleet(busy, other, links=()), THRESHOLD))
    assert engines_of(moved) == ("local", "edge-1", None)
    assert "edge-0 has too many answers running for so long a prefill" in moved.reasons


def test_remote_prefill_relieves_a_busy_decode_engine() -> None:
    """A prompt that can go elsewhere is not refused."""
    assert placed(place(FOUR_THOUSAND, fleet(decoder(decode_load=1.0), prefiller()), THRESHOLD)).is_remote


def test_state_without_rows_crosses_too() -> None:
    """A recurrent state alone takes its time on the link."""
    states = CacheSize(bytes_per_token=0, state_bytes=1e8)
    placement = placed(place(FOUR_THOUSAND, fleet(*PAIR, cache=states), PREDICTIVE))
    assert placement.first_token_s == pytest.approx(0.5 + 1.0 + 0.02)
