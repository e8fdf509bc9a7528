"""With which figures of engines plans are made."""

import numpy as np
import pytest

from prfaas.planner.controller.profiles import Kinds, kinds_of
from prfaas.planner.profile import EngineProfile
from prfaas.routing.figures import CacheSize, PrefillRate
from prfaas.routing.snapshot import EngineState
from tests.planner import cases
from tests.planner.controller.fluid import local_engine, remote_engine

AT = np.array([1000.0, 10_000.0])


def kinds(
    here: list[EngineState],
    there: list[EngineState],
    local: EngineProfile | None = cases.LOCAL,
    remote: EngineProfile | None = cases.REMOTE,
) -> Kinds:
    found = kinds_of(local, remote, here, there, CacheSize(5000.0, 1e6), 2000.0)
    assert found is not None
    return found


def test_profiles_come_first() -> None:
    """Whatever the configuration says of single engines."""
    found = kinds([local_engine("p", "prefill", prefill=PrefillRate(9.0, 9.0))], [remote_engine("c")])
    assert (found.local, found.remote, found.knows_decode) == (cases.LOCAL, cases.REMOTE, True)
    assert found.factors == (1.0, 1.0)


def test_engines_at_work_give_the_scale() -> None:
    """2,000 tokens take 0.4 s by the profile, 0.4 and 0.8 s measured: one and a half times all of it."""
    rates = [PrefillRate(0.0, each, source="measured") for each in (2e-4, 4e-4)]
    found = kinds([local_engine(f"p-{at}", "prefill", prefill=rate) for at, rate in enumerate(rates)], [])
    assert found.factors == pytest.approx((1.5, 1.0), rel=1e-4)
    assert found.local.prefill.at(AT) == pytest.approx([0.3, 3.0], rel=1e-4)
    assert found.local.decode is cases.LOCAL.decode


def test_what_is_measured_is_believed_within_bounds() -> None:
    """A hundred times as slow is something else than this engine: four times at most."""
    slow = PrefillRate(0.0, 2e-2, source="measured")
    assert kinds([], [remote_engine("c", prefill=slow)]).factors == (1.0, 4.0)


def test_without_profiles_the_router_s_figures_do() -> None:
    """The mean of the engines whose speed is known, and the cache's size as it is known."""
    speeds = [PrefillRate(0.1, 1e-4), PrefillRate(0.3, 3e-4), None]
    engines = [local_engine(f"p-{at}", "prefill", prefill=speed) for at, speed in enumerate(speeds)]
    found = kinds(engines, [remote_engine("c", prefill=None)], local=None, remote=None)
    assert found.local.prefill.at(AT) == pytest.approx([0.4, 2.2], rel=1e-4)
    assert found.local.cache.at(AT) == pytest.approx([6e6, 51e6])
    assert found.remote is None
    assert not found.knows_decode


def test_nothing_known_is_no_plan() -> None:
    """Of the local engines; a speed of nothing a second is still one that can be divided by."""
    assert kinds_of(None, cases.REMOTE, [local_engine("p", "prefill", prefill=None)], [], None, 1.0) is None
    free = kinds([local_engine("p", "prefill", prefill=PrefillRate(0.0, 0.0))], [], local=None, remote=None)
    assert free.local.prefill.at(AT).min() > 0
