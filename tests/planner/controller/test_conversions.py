"""When an engine is converted, and which one. Gains and losses are in requests a second."""

from dataclasses import replace

import pytest
from msgspec import structs

from prfaas.planner.controller.advice import Conversion, Role
from prfaas.planner.controller.conversions import Conversions, Wish
from prfaas.planner.controller.settings import ControllerSettings
from prfaas.routing.snapshot import EngineState
from tests.planner.controller.fluid import fleet_of, local_engine

SETTINGS = ControllerSettings(
    confirm_s=30.0, dwell_s=60.0, reversal_s=600.0, conversion_s=30.0, horizon_s=900.0, max_conversions_per_hour=4
)
DECODERS = [
    local_engine("d-0", "decode", inflight=7),
    local_engine("d-1", "decode", inflight=3),
    local_engine("d-2", "decode", inflight=3),
]


def wish(
    role: Role = "prefill",
    *,
    gain: float = 1.0,
    loss: float = 0.5,
    at_once: int = 1,
    engines: list[EngineState] = DECODERS,
) -> Wish:
    return Wish(role, engines, at_once, loss, gain, rounds=1)


def until_advised(conversions: Conversions, wanted: Wish, seconds: range) -> tuple[int, Conversion] | None:
    """The first second in which a conversion begins."""
    for second in seconds:
        if begun := conversions.next(float(second), wanted):
            assert len(begun) == 1
            return second, begun[0]
    return None


def done(conversions: Conversions, now_s: float, name: str, role: Role) -> None:
    """The engine was converted."""
    conversions.watch(now_s, fleet_of([local_engine(name, role)]))
    assert conversions.pending == ()


def test_it_has_to_be_wanted_for_a_while() -> None:
    """Half a minute without a break; the engine with the least to do goes."""
    conversions = Conversions(SETTINGS)
    assert until_advised(conversions, wish(), range(20)) is None
    assert conversions.waits_for == "11 s more in which it is still wanted"
    assert conversions.next(20.0, None) == ()
    assert conversions.waits_for == ""
    assert until_advised(conversions, wish(), range(21, 200)) == (51, Conversion("d-1", "prefill"))


def test_one_at_a_time() -> None:
    """While one is on its way nothing else begins, for hours if need be."""
    conversions = Conversions(SETTINGS)
    assert until_advised(conversions, wish(), range(100)) is not None
    draining = fleet_of([structs.replace(DECODERS[1], is_draining=True)])
    for second in range(100, 10_000, 50):
        assert conversions.watch(float(second), draining) == ()
        assert conversions.next(float(second), wish()) == ()
    assert conversions.waits_for == "d-1 to be converted"


def test_several_at_once_where_that_loses_nothing() -> None:
    """The two idlest together, the next ones only when both are done."""
    conversions = Conversions(replace(SETTINGS, confirm_s=0.0, dwell_s=0.0))
    begun = conversions.next(0.0, wish(at_once=2))
    assert [each.engine for each in begun] == ["d-1", "d-2"]
    half = [local_engine("d-1", "prefill"), structs.replace(DECODERS[2], is_draining=True), DECODERS[0]]
    assert conversions.watch(30.0, fleet_of(half)) == ("d-1 is converted: it can prefill now",)
    assert conversions.next(31.0, wish(engines=[DECODERS[0]])) == ()
    done(conversions, 40.0, "d-2", "prefill")
    assert [each.engine for each in conversions.next(41.0, wish(engines=[DECODERS[0]]))] == ["d-0"]


def test_several_at_once_are_counted_each() -> None:
    """Four an hour: three and one; an hour later, as those grow old, three and one again."""
    conversions = Conversions(replace(SETTINGS, confirm_s=0.0, dwell_s=0.0))
    engines = [local_engine(f"d-{at}", "decode") for at in range(9)]
    counts = []
    for second in range(0, 3700, 10):
        begun = conversions.next(float(second), wish(at_once=3, engines=engines, gain=100.0))
        counts += [len(begun)] if begun else []
        conversions.watch(second + 5.0, fleet_of([local_engine(each.engine, "prefill") for each in begun]))
    assert counts == [3, 1, 3, 1]


def test_between_two_there_is_a_pause() -> None:
    """A minute in the same direction, ten in the other, from the moment at which the first one was done."""
    conversions = Conversions(SETTINGS)
    assert until_advised(conversions, wish(), range(100)) is not None
    done(conversions, 100.0, "d-1", "prefill")
    again = Conversions(SETTINGS)
    assert until_advised(again, wish(), range(100)) is not None
    done(again, 100.0, "d-1", "prefill")
    same = until_advised(conversions, wish(), range(101, 1000))
    assert same is not None
    assert same[0] == 160
    other = until_advised(again, wish("decode"), range(101, 1000))
    assert other is not None
    assert other[0] == 700


def test_a_fleet_that_serves_nothing_is_not_kept_waiting() -> None:
    """Neither by the pause before the other direction nor by one that was given up; it is confirmed all the same."""
    conversions = Conversions(SETTINGS)
    assert until_advised(conversions, wish(), range(100)) is not None
    conversions.watch(31.0, fleet_of([structs.replace(DECODERS[1], is_draining=True)]))
    conversions.watch(40.0, fleet_of(DECODERS))
    found = until_advised(conversions, replace(wish("decode"), is_rescue=True), range(100, 1000))
    assert found is not None
    assert found[0] == 130


def test_never_more_than_so_many_in_an_hour() -> None:
    """Four, however much there is to gain; the fifth an hour after the first."""
    conversions, begun = Conversions(SETTINGS), []
    for second in range(8000):
        for conversion in conversions.next(float(second), wish(gain=100.0)):
            begun.append(second)
            done(conversions, second + 1.0, conversion.engine, "prefill")
    assert begun[:5] == [30, 91, 152, 213, 3630]
    assert all(later - earlier >= 3600 for earlier, later in zip(begun, begun[4:], strict=False))


def test_a_gain_has_to_outweigh_the_loss_while_an_engine_drains() -> None:
    """6 requests/s less for 30 s are 180; 0.2 more for 900 s are as many, and not enough; 0.21 are."""
    conversions = Conversions(SETTINGS)
    assert until_advised(conversions, wish(gain=0.2, loss=6.0), range(1000)) is None
    assert conversions.waits_for.startswith("a gain: 180 requests in 900 s do not outweigh 180 lost")
    assert until_advised(conversions, wish(gain=0.21, loss=6.0), range(1000, 2000)) is not None


def test_none_at_all_may_be_configured() -> None:
    """A bound of 0 an hour."""
    conversions = Conversions(replace(SETTINGS, max_conversions_per_hour=0))
    assert until_advised(conversions, wish(gain=100.0), range(0, 20_000, 10)) is None
    assert conversions.waits_for == "fewer than 0 in the last hour"


def test_what_was_done_counts_under_other_settings() -> None:
    """Two in an hour, and then four are allowed: two more; the one on its way stays on its way."""
    conversions, begun = Conversions(replace(SETTINGS, max_conversions_per_hour=2, dwell_s=0.0)), list[Conversion]()
    for second in range(3000):
        if second == 1000:
            conversions = conversions.following(SETTINGS)
            assert [each.conversion for each in conversions.pending] == [Conversion("d-1", "prefill")]
        begun += conversions.next(float(second), wish(gain=100.0))
        if second not in range(31, 1001):
            conversions.watch(float(second), fleet_of([local_engine("d-1", "prefill")]))
    assert len(begun) == 4


def test_pauses_hold_under_other_settings() -> None:
    """Ten minutes before the other direction, and after an advice that nobody followed."""
    done_before, ignored = Conversions(SETTINGS), Conversions(SETTINGS)
    for conversions in (done_before, ignored):
        assert until_advised(conversions, wish(), range(100)) is not None
    done(done_before, 100.0, "d-1", "prefill")
    ignored.watch(100.0, fleet_of(DECODERS))
    wanted: list[tuple[Conversions, Role]] = [(done_before, "decode"), (ignored, "prefill")]
    for before, role in wanted:
        found = until_advised(before.following(SETTINGS), wish(role), range(101, 1000))
        assert found is not None
        assert found[0] == 700


def test_an_advice_that_is_not_followed_is_not_repeated_soon() -> None:
    """As in shadow mode: after a minute it counts as not followed, and ten minutes later it is said again."""
    conversions, fleet = Conversions(SETTINGS), fleet_of(DECODERS)
    said: list[str] = []
    begun: list[int] = []
    for second in range(1500):
        said += conversions.watch(float(second), fleet)
        if conversions.next(float(second), wish()):
            begun.append(second)
    assert begun[:2] == [30, 691]
    assert said[0] == "the advice to let d-1 prefill was not followed"


def test_an_engine_that_keeps_its_role_is_left_alone_for_a_while() -> None:
    """It drained and came back as it was: the owner gave the conversion up."""
    conversions = Conversions(SETTINGS)
    assert until_advised(conversions, wish(), range(100)) is not None
    conversions.watch(31.0, fleet_of([structs.replace(DECODERS[1], is_draining=True)]))
    assert conversions.watch(90.0, fleet_of(DECODERS)) == (
        "d-1 was not converted: it takes requests again in its former role",
    )
    found = until_advised(conversions, wish(), range(91, 1000))
    assert found is not None
    assert found[0] == 690


def test_an_engine_that_vanishes_holds_nothing_up() -> None:
    """It left the configuration while it drained."""
    conversions = Conversions(SETTINGS)
    assert until_advised(conversions, wish(), range(100)) is not None
    assert conversions.watch(40.0, fleet_of([])) == ("d-1 is gone: it will not prefill",)
    assert conversions.pending == ()


@pytest.mark.parametrize("engines", [[]])
def test_without_an_engine_that_could_nothing_begins(engines: list[EngineState]) -> None:
    """And it says what it waits for."""
    conversions = Conversions(SETTINGS)
    assert until_advised(conversions, wish(engines=engines), range(100)) is None
    assert conversions.waits_for == "an engine that is well and could prefill"
