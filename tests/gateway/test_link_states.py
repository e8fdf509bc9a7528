"""Links as placement sees them, from what both ends tell."""

from typing import Any

import pytest

from prfaas.config import Config, parse_config
from prfaas.gateway.link_states import LinkStates
from prfaas.routing.snapshot import LinkState
from prfaas.types import LinkStatistics


def config(**link: object) -> Config:
    engine = {"kv": "127.0.0.1:7001", "roles": ["prefill", "decode"]}
    names = ("edge-0", "edge-1", "cloud-0", "cloud-1", "moon-0")
    return parse_config(
        {
            "model": {"name": "tiny", "path": "/nowhere", "max_model_len": 100},
            "gateway": {"site": "edge"},
            "sites": {site: {"tls": "off"} for site in ("edge", "cloud", "moon")},
            "engines": {
                name: {
                    **engine,
                    "site": name.split("-")[0],
                    "url": f"http://127.0.0.1:{8101 + at}",
                    "kv": f"127.0.0.1:{7001 + 10 * at}",
                }
                for at, name in enumerate(names)
            },
            "links": [{"from": "cloud", "to": "edge", "bandwidth_gbps": 0.8, **link}, {"from": "moon", "to": "edge"}],
        }
    )


def sends(peer: str = "edge-0", **fields: Any) -> LinkStatistics:
    return LinkStatistics(peer, True, bandwidth_bytes_s=1e8, **fields)


def receives(peer: str = "cloud-0", **fields: Any) -> LinkStatistics:
    return LinkStatistics(peer, False, bandwidth_bytes_s=1e8, **fields)


def after(links: LinkStates, **told: tuple[LinkStatistics, ...]) -> LinkState:
    """The link from cloud after one more round; engines are written with an underscore."""
    return later(links, 0.0, **told)


def later(links: LinkStates, now_s: float, **told: tuple[LinkStatistics, ...]) -> LinkState:
    links.step({name.replace("_", "-"): each for name, each in told.items()}, now_s)
    return links.states()[0]


def test_links_are_idle_before_anything_is_told() -> None:
    """Every configured link is there from the start, with its bandwidth."""
    states = LinkStates(config()).states()
    assert [(each.source, each.target, each.bandwidth_bytes_s) for each in states] == [
        ("cloud", "edge", 1e8),
        ("moon", "edge", 1.25e9),
    ]
    assert not any(each.is_scarce or each.queued_bytes or each.goodput_bytes_s for each in states)


def test_pairs_of_engines_share_the_link() -> None:
    """Queues and utilisation of all pairs add up, the goodput of those at work; another link has its own."""
    link = after(
        links := LinkStates(config()),
        cloud_0=(
            sends("edge-0", goodput_bytes_s=3e7, utilisation=0.3, in_flight_bytes=100, rtt_s=0.03),
            sends("edge-1", goodput_bytes_s=9e7, utilisation=0.1),
        ),
        cloud_1=(sends("edge-0", goodput_bytes_s=2e7, utilisation=0.2, queued_bytes=50, is_congested=True),),
        moon_0=(sends("edge-0", queued_bytes=7),),
    )
    assert (link.goodput_bytes_s, link.queued_bytes, link.rtt_s, link.is_congested) == (5e7, 150, 0.03, True)
    assert link.utilisation == pytest.approx(0.6)
    assert links.states()[1].queued_bytes == 7


def test_idle_pairs_tell_what_the_link_can_do() -> None:
    """Without a transfer at work the best goodput stands for the link."""
    link = after(LinkStates(config()), cloud_0=(sends(goodput_bytes_s=3e7), sends("edge-1", goodput_bytes_s=9e7)))
    assert link.goodput_bytes_s == 9e7


def test_sending_end_knows_more() -> None:
    """Of the two ends' words on a pair the sender's is taken, the receiver's when there is no other."""
    told = {"edge_0": (receives(queued_bytes=5, rtt_s=0.5),), "cloud_0": (sends(queued_bytes=9, rtt_s=0.1),)}
    assert after(LinkStates(config()), **told).queued_bytes == 9
    assert after(LinkStates(config()), **dict(reversed(told.items()))).queued_bytes == 9
    assert after(LinkStates(config()), edge_0=told["edge_0"]).queued_bytes == 5


def test_unknown_peers_are_nobodys_link() -> None:
    """An engine that is not configured belongs to no link."""
    assert after(LinkStates(config()), cloud_0=(sends("stranger", queued_bytes=9),)).queued_bytes == 0


def test_scarcity_remembers() -> None:
    """A link between the thresholds stays what it was; silence of its engines ends scarcity."""
    links = LinkStates(config())
    seen = [after(links, cloud_0=(sends(utilisation=used),)).is_scarce for used in (0.7, 0.8, 0.7, 0.5, 0.7)]
    assert seen == [False, True, True, False, False]
    after(links, cloud_0=(sends(utilisation=0.9),))
    assert not after(links).is_scarce


def left_gb(link: LinkState) -> float:
    assert link.budget_left_bytes is not None
    return link.budget_left_bytes / 1e9


def test_budget_counts_what_crosses() -> None:
    """Delivered and resent bytes count from the first answer on, those of a restarted engine as well."""
    links = LinkStates(config(egress_budget_gb_per_day=10))
    assert left_gb(after(links, cloud_0=(sends(delivered_bytes=7_000_000_000),))) == 10
    assert left_gb(after(links, cloud_0=(sends(delivered_bytes=8_000_000_000, resent_bytes=500_000_000),))) == 8.5
    assert left_gb(after(links, cloud_0=(sends(delivered_bytes=2_000_000_000),))) == 6.5
    pairs = (sends(delivered_bytes=2_000_000_000), sends("edge-1", delivered_bytes=1_000_000_000))
    assert left_gb(after(links, cloud_0=pairs)) == 5.5
    assert left_gb(later(links, 25 * 3600.0, cloud_0=pairs)) == 10


def test_budget_counts_nothing_twice() -> None:
    """When the sending end falls silent the receiving end's word is not added to what the sender tells later."""
    links = LinkStates(config(egress_budget_gb_per_day=10))
    after(links, cloud_0=(sends(delivered_bytes=0),), edge_0=(receives(delivered_bytes=0),))
    assert left_gb(after(links, edge_0=(receives(delivered_bytes=1_000_000_000),))) == 10
    both = {"cloud_0": (sends(delivered_bytes=1_000_000_000),), "edge_0": (receives(delivered_bytes=1_000_000_000),)}
    assert left_gb(after(links, **both)) == 9


def test_budget_counts_by_the_receiver_alone() -> None:
    """A sending end that never answers leaves the count to the receiving end."""
    links = LinkStates(config(egress_budget_gb_per_day=10))
    after(links, edge_0=(receives(delivered_bytes=1_000_000_000),))
    assert left_gb(after(links, edge_0=(receives(delivered_bytes=4_000_000_000),))) == 7


def test_budget_outlives_a_change_of_the_configuration() -> None:
    """What crossed counts on against the new budget; a link that is new begins with nothing."""
    links = LinkStates(config(egress_budget_gb_per_day=10))
    for total in (0, 4_000_000_000):
        after(links, cloud_0=(sends(delivered_bytes=total),))
    more = links.following(config(egress_budget_gb_per_day=20))
    assert left_gb(after(more, cloud_0=(sends(delivered_bytes=5_000_000_000),))) == 15


def test_what_crosses_is_counted_without_a_budget() -> None:
    """From the first answer of each engine on, for each link by itself, and beyond a change of the configuration."""
    links = LinkStates(config())
    for total in (100, 400):
        after(links, cloud_0=(sends(delivered_bytes=total, resent_bytes=total // 2),))
    assert links.crossed_bytes() == (450, 0)
    assert links.following(config(egress_budget_gb_per_day=1)).crossed_bytes() == (450, 0)


def test_no_budget_is_no_limit() -> None:
    """A link without a budget has none left to speak of."""
    assert after(LinkStates(config()), cloud_0=(sends(delivered_bytes=1),)).budget_left_bytes is None
