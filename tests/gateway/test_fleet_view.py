"""Snapshots for placement."""

import pytest

from prfaas.clock import ManualClock
from prfaas.config import Config
from prfaas.fleet.fleet import Fleet
from prfaas.gateway.fleet_view import PREFIX_TOKENS, FleetView
from prfaas.routing.figures import CacheSize, PrefillRate
from prfaas.types import LinkStatistics, TransferReport
from tests.gateway.fakes import config_for


def view_of(config: Config) -> tuple[FleetView, Fleet]:
    fleet = Fleet(config.engines, ManualClock())
    return FleetView(config, fleet), fleet


def with_figures(config: Config) -> Config:
    """The edge engine with a capacity and a speed."""
    tree = config.model_dump(by_alias=True)
    tree["engines"]["edge-0"] |= {"max_requests": 4, "prefill": {"fixed_s": 0.1, "s_per_token": 0.001}}
    tree["policy"]["cache"] = {"bytes_per_token": 10, "state_bytes": 5}
    return Config.model_validate(tree)


CONFIG = config_for("http://127.0.0.1:8101", "http://127.0.0.1:8102")


def test_snapshot_shows_what_changes() -> None:
    """Health and load of the fleet are in the next snapshot, engines that did not change are the same objects."""
    view, fleet = view_of(CONFIG)
    first = view.snapshot()
    assert [(each.name, each.is_healthy) for each in first.engines] == [("edge-0", False), ("cloud-0", False)]
    fleet.note("edge-0", "")
    with fleet.load("edge-0"):
        second = view.snapshot()
    assert (second.engines[0].is_healthy, second.engines[0].inflight) == (True, 1)
    assert second.engines[1] is first.engines[1]
    assert (second.turn, second.links) == (first.turn + 1, first.links)
    assert view.snapshot().engines[0].inflight == 0


def test_figures_of_the_configuration() -> None:
    """Capacity, speed and the cache's size come from the file; load is a share of the capacity."""
    view, fleet = view_of(with_figures(CONFIG))
    with fleet.load("edge-0"):
        snapshot = view.snapshot()
    edge, cloud = snapshot.engines
    assert (edge.capacity, edge.decode_load, edge.prefill) == (4, 0.25, PrefillRate(0.1, 0.001))
    assert (cloud.capacity, cloud.decode_load, cloud.prefill) == (None, None, None)
    assert snapshot.cache is not None
    assert (snapshot.cache.bytes_per_token, snapshot.cache.state_bytes) == (10, 5)


@pytest.mark.parametrize(("name", "engine"), [("edge-0", 0), ("cloud-0", 1)])
def test_tokens_wait_where_they_are_prefilled(name: str, engine: int) -> None:
    """They wait until the block ends, also by an error."""
    view, _ = view_of(CONFIG)

    def waiting() -> list[int]:
        return [each.waiting_tokens for each in view.snapshot().engines]

    def fail() -> None:
        with view.prefilling(name, 70), view.prefilling(name, 70):
            assert waiting()[engine] == sum(waiting()) == 140
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert waiting() == [0, 0]


def test_a_request_awaits_its_cache_where_it_is_decoded() -> None:
    """It is in every snapshot until the block ends, also when nothing else about the engine changes."""
    view, _ = view_of(CONFIG)

    def awaiting() -> list[int]:
        return [each.awaiting for each in view.snapshot().engines]

    assert awaiting() == [0, 0]
    with view.awaiting("edge-0"):
        assert awaiting() == [1, 0]
    assert awaiting() == [0, 0]


def report(tokens: int, cache_bytes: int, *, ok: bool = True) -> TransferReport:
    return TransferReport("t", ok=ok, tokens=tokens, cache_bytes=cache_bytes)


def test_size_of_the_cache_is_learnt() -> None:
    """From transfers that came whole; a size in the configuration stands."""
    told, _ = view_of(with_figures(CONFIG))
    view, _ = view_of(CONFIG)
    assert view.snapshot().cache is None
    for each in (report(100, 3_000), report(0, 7), report(100, 9, ok=False), report(300, 5_000)):
        view.note_transfer(each)
        told.note_transfer(each)
    learnt = view.snapshot().cache
    assert learnt is not None
    assert (learnt.bytes_per_token, learnt.state_bytes) == pytest.approx((10, 2_000))
    assert told.snapshot().cache == CacheSize(10, 5)


def test_another_configuration_keeps_what_is_known() -> None:
    """What waits, what was learnt and how the links are goes over to the view that follows."""
    view, _ = view_of(CONFIG)
    view.note_transfer(report(100, 3_000))
    view.links.step({"cloud-0": (LinkStatistics("edge-0", True, is_congested=True),)}, 0.0)
    with view.prefilling("edge-0", 70), view.awaiting("edge-0"):
        after = view.following(with_threshold(CONFIG, 77))
        snapshot = after.snapshot()
        assert (snapshot.engines[0].waiting_tokens, snapshot.engines[0].awaiting) == (70, 1)
        assert after.policy.threshold_tokens == 77
        assert snapshot.cache == CacheSize(30, 0)
        assert snapshot.links[0].is_scarce
    edge = after.snapshot().engines[0]
    assert (edge.waiting_tokens, edge.awaiting) == (0, 0)


def with_threshold(config: Config, tokens: int) -> Config:
    tree = config.model_dump(by_alias=True)
    tree["policy"]["threshold_tokens"] = tokens
    return Config.model_validate(tree)


def test_what_is_learnt_shows() -> None:
    """A new speed and a new threshold hold from the next snapshot on."""
    view, _ = view_of(CONFIG)
    view.snapshot()
    view.set_rate("cloud-0", PrefillRate(0.2, 1e-4))
    view.set_threshold(77)
    assert view.snapshot().engines[1].prefill == PrefillRate(0.2, 1e-4)
    assert view.policy.threshold_tokens == 77


def edge_of(roles: list[list[str]], **policy: object) -> Config:
    """As many engines of the gateway's site as there are roles."""
    tree = CONFIG.model_dump(by_alias=True)
    first = tree["engines"].pop("edge-0")
    for at, each in enumerate(roles):
        url, kv = f"http://127.0.0.1:{8200 + at}", f"127.0.0.1:{8300 + at}"
        tree["engines"][f"edge-{at}"] = {**first, "url": url, "kv": kv, "roles": each}
    tree["policy"] |= policy
    return Config.model_validate(tree)


BOTH, PREFILL = ["prefill", "decode"], ["prefill"]


@pytest.mark.parametrize(
    ("roles", "prefix", "above"),
    [([BOTH], 2, 5_000), ([BOTH, PREFILL], 2, 100), ([BOTH, BOTH], 2, PREFIX_TOKENS), ([BOTH, BOTH], 0, 5_000)],
)
def test_a_prompt_is_tokenised_where_its_length_or_prefix_may_matter(
    roles: list[list[str]], prefix: float, above: int
) -> None:
    """Beside engines that only prefill, and among several that may have its beginning, sooner than at the threshold."""
    config = edge_of(roles, threshold_tokens=5_000, hand_over_min_tokens=100, weights={"prefix": prefix})
    assert view_of(config)[0].tokenise_above == above


def test_a_broken_engine_counts_as_broken_only_beside_one_that_takes_requests() -> None:
    """A breaker saves time where another engine answers; one that drains or is ill does not."""
    view, fleet = view_of(edge_of([BOTH, BOTH]))
    for name in ("edge-0", "edge-1"):
        fleet.note(name, "")
    for _ in range(10):
        fleet.breakers.blame("edge-0")

    def is_broken() -> bool:
        return next(each.is_broken for each in view.snapshot().engines if each.name == "edge-0")

    assert is_broken()
    fleet.drain({"edge-1"})
    assert not is_broken()
    fleet.drain(set())
    assert is_broken()
    fleet.note("edge-1", "does not answer")
    assert not is_broken()
