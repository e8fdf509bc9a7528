"""docs/routing.md is true: its example, its keys and their defaults."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from prfaas.config.policy import CacheConfig, PolicyConfig, PrefillConfig
from prfaas.config.sections import EngineConfig, LinkConfig
from prfaas.routing.figures import CacheSize, PrefillRate
from prfaas.routing.place import place
from prfaas.routing.placement import Placement
from prfaas.routing.policy import Policy
from prfaas.routing.snapshot import EngineState, FleetSnapshot, RequestFeatures
from tests.routing.fleets import decoder, link, placed, prefiller

PAGE = " ".join((Path(__file__).parents[2] / "docs" / "routing.md").read_text(encoding="utf-8").split())
H20, H200 = PrefillRate(0.4689, 1.3002e-4, 2.944e-10), PrefillRate(0.3834, 4.2545e-5, 8.793e-11)
ENGINES: tuple[EngineState, ...] = (
    decoder("edge-0", prefill=H20, inflight=6),
    decoder("edge-1", prefill=H20, inflight=2),
    prefiller("cloud-0", prefill=H200, inflight=1, waiting_tokens=30_000),
    prefiller("cloud-1", prefill=H200),
)
POLICY = Policy(threshold_tokens=19_400)


def example(policy: Policy, queued_bytes: float = 2e8) -> Placement:
    way = link(bandwidth_bytes_s=1.25e9, goodput_bytes_s=1.1e9, utilisation=0.4, rtt_s=0.03, queued_bytes=queued_bytes)
    snapshot = FleetSnapshot("edge", ENGINES, (way,), cache=CacheSize(17_280, 182_353_920))
    return placed(place(RequestFeatures(32_000, hits={"edge-0": 4_000}), snapshot, policy))


@pytest.mark.parametrize(("name", "queued_bytes"), [("threshold", 2e8), ("predictive", 2e8), ("predictive", 5e9)])
def test_the_pages_example_is_so(name: Any, queued_bytes: float) -> None:
    """The decision's words stand on the page."""
    placement = example(replace(POLICY, name=name), queued_bytes)
    assert f'"{placement.reasons[0]}"' in PAGE


def test_the_pages_figures_are_so() -> None:
    """Engines, predictions and alternatives are those of the page."""
    placement = example(POLICY)
    assert (placement.decode, placement.prefill) == ("edge-0", "cloud-1")
    assert [f"{way.first_token_s:.2f} s" in PAGE for way in placement.candidates[:2]] == [True, True]
    assert [way.prefill or way.decode for way in placement.alternatives] == ["cloud-0", "edge-0", "edge-1"]


def keys(section: type[BaseModel], prefix: str) -> dict[str, Any]:
    """Key path -> default of a section and those in it."""
    found: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        if isinstance(field.default, BaseModel):
            found |= keys(type(field.default), f"{prefix}.{name}")
        else:
            found[f"{prefix}.{name}"] = field.default
    return found


def test_the_page_lists_every_key() -> None:
    """All keys of the policy, and those of engines and links that placement looks at, with their defaults."""
    known = keys(PolicyConfig, "policy") | keys(CacheConfig, "policy.cache")
    known |= keys(PrefillConfig, "engines.*.prefill")
    known |= {"engines.*.max_requests": EngineConfig.model_fields["max_requests"].default}
    budget = "egress_budget_gb_per_day"
    known |= {f"links[].{budget}": LinkConfig.model_fields[budget].default}
    del known["policy.cache"]
    empty = {None: "none", PydanticUndefined: ""}
    shown = {key: empty.get(value, str(value)) for key, value in known.items()}
    listed = dict(re.findall(r"\| `((?:policy|engines|links)[^`]*)` \| ([^|]*?) ?\|", PAGE))
    assert listed == shown
