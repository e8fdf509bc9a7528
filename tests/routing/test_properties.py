"""What holds of every decision, whatever the fleet."""

from collections.abc import Iterable
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from prfaas.routing.figures import CacheSize, PrefillRate
from prfaas.routing.place import MAX_ALTERNATIVES, MAX_CANDIDATES, place
from prfaas.routing.placement import Candidate, Placement, Refusal
from prfaas.routing.policy import BrownOut, Policy
from prfaas.routing.scarcity import Scarcity
from prfaas.routing.snapshot import EngineState, FleetSnapshot, LinkState, RequestFeatures

SITES = ("edge", "cloud", "moon")
NAMES = tuple(f"engine-{number}" for number in range(7))
ADAPTERS = ("french", "legal")
SCARCITY = Scarcity()

rates = st.none() | st.builds(PrefillRate, st.sampled_from([0.0, 0.4]), st.sampled_from([1e-5, 1e-3]), st.just(1e-9))
states = st.builds(
    EngineState,
    name=st.just(""),
    site=st.sampled_from(SITES),
    can_prefill=st.booleans(),
    can_decode=st.booleans(),
    is_healthy=st.sampled_from([True, True, True, False]),
    inflight=st.integers(0, 3),
    is_draining=st.sampled_from([False, False, False, True]),
    is_broken=st.sampled_from([False, False, False, True]),
    waiting_tokens=st.sampled_from([0, 300, 50_000]),
    capacity=st.none() | st.integers(1, 4),
    prefill=rates,
    decode_load=st.none() | st.floats(0, 1),
    adapters=st.none() | st.sets(st.sampled_from(ADAPTERS)).map(frozenset) | st.just(frozenset(ADAPTERS)),
)
links = st.builds(
    LinkState,
    source=st.sampled_from(SITES),
    target=st.just("edge"),
    bandwidth_bytes_s=st.just(1e8),
    goodput_bytes_s=st.floats(1e6, 2e8),
    queued_bytes=st.floats(0, 1e9),
    utilisation=st.floats(0, 1),
    rtt_s=st.floats(0, 0.3),
    is_congested=st.booleans(),
    is_scarce=st.booleans(),
    budget_left_bytes=st.none() | st.floats(-1e6, 1e8),
    is_broken=st.sampled_from([False, False, False, True]),
)
fleets = st.builds(
    lambda engines, links, turn, cache: FleetSnapshot(
        "edge",
        tuple(structs.replace(engine, name=name) for name, engine in zip(NAMES, engines, strict=False)),
        tuple(links),
        turn,
        cache,
    ),
    st.lists(states, min_size=2, max_size=7),
    st.lists(links, max_size=3, unique_by=lambda link: link.source),
    st.integers(0, 20),
    st.none() | st.builds(CacheSize, st.sampled_from([10.0, 20_000.0]), st.sampled_from([0.0, 1e7])),
)
features = st.builds(
    RequestFeatures,
    prompt_tokens=st.none() | st.integers(0, 3) | st.integers(300, 3000),
    local_reasons=st.sampled_from([(), (), (), ("n > 1",)]),
    hits=st.dictionaries(st.sampled_from(NAMES), st.integers(0, 3000), max_size=4),
    min_tokens=st.sampled_from([0, 900]),
    max_tokens=st.none() | st.integers(0, 2000),
    tenant_sites=st.none() | st.sets(st.sampled_from(SITES)).map(frozenset),
    first_token_slo_s=st.none() | st.floats(0.01, 5),
    adapter=st.sampled_from([None, None, *ADAPTERS]),
)
policies = st.builds(
    Policy,
    name=st.sampled_from(["threshold", "predictive"]),
    threshold_tokens=st.sampled_from([0, 100, 512, 1500]),
    scarce_threshold_tokens=st.none() | st.sampled_from([0, 1000]),
    margin=st.sampled_from([0.0, 0.2]),
    slo_first_token_s=st.none() | st.floats(0.01, 5),
    hand_over_min_tokens=st.sampled_from([0, 128]),
    brown_out=st.builds(BrownOut, st.none() | st.floats(0.1, 1), st.none() | st.just(200)),
)


def may_compute(engine: EngineState, features: RequestFeatures) -> bool:
    """An engine without the request's adapter would answer for another model, or not at all."""
    return features.adapter is None or engine.adapters is None or features.adapter in engine.adapters


def ways(placement: Placement) -> Iterable[Candidate]:
    return (*placement.candidates, *placement.alternatives)


@given(features, fleets, policies)
@settings(max_examples=400)
def test_never_remote_within_the_threshold(features: RequestFeatures, fleet: FleetSnapshot, policy: Policy) -> None:
    """A prompt of which the site would have to compute no more than t tokens stays; so does one that loads nothing."""
    decision = place(features, fleet, policy)
    if isinstance(decision, Placement) and decision.is_remote:
        here = [way for way in decision.candidates if not way.is_remote]
        assert here[0].uncached_tokens is not None
        assert here[0].uncached_tokens > max(policy.threshold_tokens, 1)
        assert not features.local_reasons
    if isinstance(decision, Placement) and decision.is_handed_over:
        held = min(features.hits.get(decision.decode, 0), (features.prompt_tokens or 0) - 1)
        assert (features.prompt_tokens or 0) - held > 1
        assert not features.local_reasons


@given(features, fleets, policies)
@settings(max_examples=400)
def test_remote_computes_more_than_the_threshold_or_moves_a_cache(
    features: RequestFeatures, fleet: FleetSnapshot, policy: Policy
) -> None:
    """By the paper's l: what is computed elsewhere is above t, unless the cache that lies there has to be moved."""
    decision = place(features, fleet, replace(policy, name="threshold"))
    if isinstance(decision, Placement) and decision.is_remote:
        engine = next(engine for engine in fleet.engines if engine.name == decision.prefill)
        link = next(link for link in fleet.links if link.source == engine.site)
        here = next(way for way in decision.candidates if not way.is_remote)
        local, there = here.uncached_tokens or 0, decision.uncached_tokens or 0
        uncached = local if link.is_scarce else min(local, there)
        assert uncached > policy.threshold_tokens or "they move here" in decision.reasons[0]


@given(features, fleets, policies)
@settings(max_examples=400)
def test_only_engines_and_links_that_may_be_used(
    features: RequestFeatures, fleet: FleetSnapshot, policy: Policy
) -> None:
    """Neither the choice nor an alternative is an engine that drains or is broken, a forbidden site or a bad link,
    or lacks the request's adapter."""
    decision = place(features, fleet, policy)
    if isinstance(decision, Refusal):
        assert decision.reason
        return
    engines = {engine.name: engine for engine in fleet.engines}
    links = {link.source: link for link in fleet.links}
    assert features.tenant_sites is None or "edge" in features.tenant_sites
    for way in ways(decision):
        used = [engines[name] for name in (way.decode, way.prefill) if name is not None]
        assert not any(engine.is_draining or engine.is_broken for engine in used)
        assert all(may_compute(engine, features) for engine in used)
        assert (used[0].site, used[0].can_decode) == ("edge", True)
        if way.prefill is None:
            continue
        assert way.prefill != way.decode
        assert used[1].is_healthy
        assert used[1].can_prefill
        assert used[1].capacity is None or used[1].inflight < used[1].capacity
        assert way.is_remote == (used[1].site != "edge")
        if way.is_remote:
            link = links[used[1].site]
            assert not link.is_broken
            assert features.tenant_sites is None or link.source in features.tenant_sites
            assert link.budget_left_bytes is None or link.budget_left_bytes > (way.transfer_bytes or 0)


@given(features, fleets, policies, st.data())
@settings(max_examples=400)
def test_more_load_on_a_link_never_sends_more_over_links(
    features: RequestFeatures, fleet: FleetSnapshot, policy: Policy, data: st.DataObject
) -> None:
    """Queue, utilisation, congestion, round trip up, goodput and budget down: what was local does not become remote."""
    busier = structs.replace(fleet, links=tuple(data.draw(busier_than(link)) for link in fleet.links))
    before, after = place(features, fleet, policy), place(features, busier, policy)
    if isinstance(after, Placement) and after.is_remote:
        assert isinstance(before, Placement)
        assert before.is_remote


@st.composite
def busier_than(draw: st.DrawFn, link: LinkState) -> LinkState:
    """The link with more load, its scarcity as its rules make it."""
    utilisation = draw(st.floats(link.utilisation, 1))
    is_congested = link.is_congested or draw(st.booleans())
    return structs.replace(
        link,
        goodput_bytes_s=link.goodput_bytes_s * draw(st.floats(0.1, 1)),
        queued_bytes=link.queued_bytes + draw(st.floats(0, 1e9)),
        utilisation=utilisation,
        rtt_s=link.rtt_s + draw(st.floats(0, 0.5)),
        is_congested=is_congested,
        is_scarce=link.is_scarce or SCARCITY.step(link.is_scarce, utilisation, is_congested),
        budget_left_bytes=link.budget_left_bytes and link.budget_left_bytes - draw(st.floats(0, 1e7)),
        is_broken=link.is_broken or draw(st.booleans()),
    )


@given(features, fleets, policies)
def test_same_snapshot_same_answer(features: RequestFeatures, fleet: FleetSnapshot, policy: Policy) -> None:
    """A decision depends on its arguments alone."""
    assert place(features, fleet, policy) == place(features, structs.replace(fleet), replace(policy))


@given(features, fleets, policies)
def test_records_are_bounded(features: RequestFeatures, fleet: FleetSnapshot, policy: Policy) -> None:
    """The chosen way comes first, is no alternative to itself, and neither list grows with the fleet."""
    decision = place(features, fleet, policy)
    if isinstance(decision, Placement):
        chosen = decision.candidates[0]
        assert (chosen.decode, chosen.prefill, chosen.is_remote) == (
            decision.decode,
            decision.prefill,
            decision.is_remote,
        )
        assert chosen not in decision.alternatives
        assert len(set(decision.alternatives)) == len(decision.alternatives)
        assert len(decision.candidates) <= MAX_CANDIDATES
        assert len(decision.alternatives) <= MAX_ALTERNATIVES
        assert decision.reasons
        assert all(decision.reasons)
