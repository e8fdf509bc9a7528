"""An engine gets another role: drained, idle, converted; and all that may come in between."""

from contextlib import ExitStack

import pytest

from prfaas.errors import RequestRejected
from prfaas.planner.controller.advice import Advice, Conversion
from tests.gateway.control.fakes import Controlled, controlled, split_tree

TO_PREFILL = Conversion("edge-1", "prefill")
BEGINS = ("conversion", "edge-1 begins to be converted to prefill")


def states(at: Controlled) -> dict[str, tuple[bool, bool, bool]]:
    """Engine -> can prefill, can decode, drains; as placement sees it."""
    engines = at.services.view.look().engines
    return {each.name: (each.can_prefill, each.can_decode, each.is_draining) for each in engines}


def test_an_idle_engine_is_converted_and_takes_requests_again() -> None:
    """It drains for one look at least, so that a request placed at the same moment has begun, and then has its role."""
    at = controlled()
    at.look(Advice(5, (TO_PREFILL,), ("why",)))
    assert states(at)["edge-1"] == (False, True, True)
    at.look(Advice(5))
    assert states(at)["edge-1"] == (True, False, False)
    assert at.services.view.playing("decode") == {"edge-0"}
    assert at.changes() == [BEGINS, ("converted", "edge-1 is converted to prefill: after 1.0 s")]
    assert at.value("conversions_total", role="prefill", outcome="converted") == 1


def test_running_requests_end_first() -> None:
    """As long as one runs the engine keeps its role."""
    at = controlled()
    with at.services.fleet.load("edge-1"):
        at.look(Advice(5, (TO_PREFILL,)))
        for _ in range(3):
            at.look(Advice(5))
        assert states(at)["edge-1"] == (False, True, True)
        assert at.loop.overview()["conversions"] == [{"engine": "edge-1", "role": "prefill", "for_s": 3}]
    at.look()
    assert states(at)["edge-1"] == (True, False, False)


def test_one_that_does_not_end_is_given_up() -> None:
    """After the bound the engine takes requests in its old role, and it is said why."""
    at = controlled(split_tree(drain_timeout_s=10))
    with at.services.fleet.load("edge-1"):
        at.look(Advice(5, (TO_PREFILL,)))
        at.look(Advice(5), after_s=9)
        assert states(at)["edge-1"][2]
        at.look(Advice(5))
    assert states(at)["edge-1"] == (False, True, False)
    assert at.changes()[-1] == ("given_up", "edge-1 is not converted to prefill: 1 requests still ran after 10 s")
    assert at.value("conversions_total", role="prefill", outcome="given_up") == 1


def test_an_operators_drain_wins() -> None:
    """Drained in the middle of it, the engine keeps its role and stays drained; drained before, it is not begun."""
    at = controlled()
    with at.services.fleet.load("edge-1"):
        at.look(Advice(5, (TO_PREFILL,)))
        at.services.fleet.drain({"edge-1"})
        at.look(Advice(5))
    at.look(Advice(5, (TO_PREFILL,)))
    at.look(Advice(5, (TO_PREFILL,)))
    status = at.services.fleet.status("edge-1")
    assert (states(at)["edge-1"], status.converting_s) == ((False, True, True), None)
    assert at.changes()[1:] == [
        ("given_up", "edge-1 is not converted to prefill: an operator drained it"),
        ("note", "cannot convert edge-1 to prefill: an operator drained it"),
    ]
    at.services.fleet.drain(set())
    at.look(Advice(5, (TO_PREFILL,)))
    assert at.changes()[-1] == BEGINS


def test_an_operators_undrain_ends_it() -> None:
    """Whoever gives the engine requests again does not want it converted."""
    at = controlled()
    with at.services.fleet.load("edge-1"):
        at.look(Advice(5, (TO_PREFILL,)))
        at.services.fleet.set_converting("edge-1", is_converting=False)
        at.look(Advice(5))
    assert states(at)["edge-1"] == (False, True, False)
    assert "it takes requests again: an operator said so" in at.changes()[-1][1]


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (Conversion("cloud-0", "decode"), "it is not convertible"),
        (Conversion("edge-9", "decode"), "it is not convertible"),
        (Conversion("edge-1", "decode"), "its role is decode already"),
    ],
)
def test_what_cannot_be_is_said_and_not_done(wanted: Conversion, why: str) -> None:
    """A controller that errs drains nothing."""
    at = controlled()
    at.look(Advice(5, (wanted,)))
    at.look(Advice(5, (wanted,)))
    assert at.changes() == [("note", f"cannot convert {wanted.engine} to {wanted.role}: {why}")]
    assert not any(status.is_draining for status in at.services.fleet.statuses())


def test_the_site_goes_on_decoding() -> None:
    """The last decode engine that is well keeps its role, whatever a controller says; so does one beside an engine in
    conversion."""
    at = controlled()
    at.services.fleet.note("edge-0", "gone")
    at.look(Advice(5, (TO_PREFILL,)))
    at.services.fleet.note("edge-0", "")
    at.look(Advice(5, (TO_PREFILL, Conversion("edge-0", "prefill"))))
    assert [kind for kind, _ in at.changes()] == ["note", "conversion", "note"]
    assert at.changes()[0][1].endswith("0 other engines would be left to decode, at least 1 have to be")
    assert at.changes()[2][1].startswith("cannot convert edge-0 to prefill: 0 other")


@pytest.mark.parametrize("inflight", [0, 1])
def test_the_last_engine_that_is_left_takes_requests_again(inflight: int) -> None:
    """The other decode engine is lost while this one drains: it is given up at the next look, idle or not."""
    at = controlled()
    with ExitStack() as running:
        for _ in range(inflight):
            running.enter_context(at.services.fleet.load("edge-1"))
        at.look(Advice(5, (TO_PREFILL,)))
        at.services.fleet.note("edge-0", "gone")
        at.look(Advice(5))
    assert states(at)["edge-1"] == (False, True, False)
    why = "0 other engines would be left to decode, at least 1 have to be"
    assert at.changes()[-1] == ("given_up", f"edge-1 is not converted to prefill: {why}")


def test_of_two_that_drain_one_goes_on_when_another_is_lost() -> None:
    """Giving up the first leaves enough for the second."""
    tree = split_tree()
    tree["engines"]["edge-3"] = {**tree["engines"]["edge-1"], "url": "http://127.0.0.1:8199", "kv": "127.0.0.1:7199"}
    at = controlled(tree)
    at.look(Advice(5, (TO_PREFILL, Conversion("edge-3", "prefill"))))
    at.services.fleet.note("edge-0", "gone")
    at.look(Advice(5))
    assert (states(at)["edge-1"], states(at)["edge-3"]) == ((False, True, False), (True, False, False))


def test_the_lower_bound_of_prefill_engines_is_kept() -> None:
    """So many stay, besides one that leaves."""
    at = controlled(split_tree(min_prefill_engines=1))
    at.look(Advice(5, (Conversion("edge-2", "decode"),)))
    assert at.changes()[0][1].endswith("0 other engines would be left to prefill, at least 1 have to be")


def converted() -> Controlled:
    at = controlled()
    at.look(Advice(5, (TO_PREFILL,)))
    at.look(Advice(5))
    return at


def test_roles_survive_a_reload() -> None:
    """The file says the same of the engine as before, so it keeps the role that it has."""
    at = converted()
    at.tree["policy"]["threshold_tokens"] = 7
    at.live.reload()
    assert states(at)["edge-1"] == (True, False, False)
    assert at.services.view.playing("decode") == {"edge-0"}


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ({"roles": ["prefill"]}, (True, False, False)),
        ({"roles": ["prefill", "decode"], "convertible": False}, (True, True, False)),
        ({"convertible": False}, (False, True, False)),
        ({"url": "http://127.0.0.1:8999"}, (False, True, False)),
    ],
)
def test_the_file_has_the_last_word_on_roles(change: dict[str, object], seen: tuple[bool, bool, bool]) -> None:
    """Other roles, no more conversions, or another address: what the file says counts."""
    at = converted()
    at.tree["engines"]["edge-1"] |= change
    at.live.reload()
    assert states(at)["edge-1"] == seen


def test_a_conversion_goes_on_over_a_reload() -> None:
    """The engine stays in conversion, and gets its role in the services of now."""
    at = controlled()
    with ExitStack() as running:
        running.enter_context(at.services.fleet.load("edge-1"))
        at.look(Advice(5, (TO_PREFILL,)))
        at.tree["policy"]["threshold_tokens"] = 7
        at.live.reload()
        at.look(Advice(5))
        assert states(at)["edge-1"] == (False, True, True)
    at.look(Advice(5))
    assert states(at)["edge-1"] == (True, False, False)


def test_an_operators_conversion_goes_on_when_the_mode_changes() -> None:
    """Switching the controller off ends its own conversions alone; the role outlasts that, too."""
    at = controlled()
    with at.services.fleet.load("edge-1"):
        at.loop.convert(TO_PREFILL)
        at.look(Advice(5))
        at.tree["controller"]["mode"] = "shadow"
        at.live.reload()
        at.look(Advice(5))
        assert states(at)["edge-1"] == (False, True, True)
    at.look(Advice(5))
    assert states(at)["edge-1"] == (True, False, False)
    assert at.changes() == [BEGINS, ("converted", "edge-1 is converted to prefill: after 3.0 s")]
    assert at.loop.overview()["changes"][-1]["reasons"] == ("an operator said so",)
    at.tree["policy"]["threshold_tokens"] = 7
    at.live.reload()
    assert states(at)["edge-1"] == (True, False, False)


def test_what_an_operator_converts_is_not_counted_as_the_controllers() -> None:
    """It is in the history alone; what the controller does is in the metrics, too."""
    at = controlled()
    value = at.services.metrics.registry.get_sample_value
    at.loop.convert(TO_PREFILL)
    at.look(Advice(5))
    assert [kind for kind, _ in at.changes()] == ["conversion", "converted"]
    assert value("prfaas_controller_changes_total", {"kind": "conversion", "mode": "on"}) is None
    assert value("prfaas_controller_changes_total", {"kind": "converted", "mode": "on"}) is None
    assert value("prfaas_controller_conversions_total", {"role": "prefill", "outcome": "converted"}) is None
    at.look(Advice(5, (Conversion("edge-1", "decode"),)))
    at.look(Advice(5))
    assert value("prfaas_controller_changes_total", {"kind": "converted", "mode": "on"}) == 1
    assert value("prfaas_controller_conversions_total", {"role": "decode", "outcome": "converted"}) == 1


def test_one_of_several_workers_converts_nothing() -> None:
    """Each would have its own view of the roles."""
    tree = split_tree("shadow")
    tree["gateway"]["workers"] = 2
    at = controlled(tree)
    with pytest.raises(RequestRejected, match=r"set gateway\.workers: 1") as refusal:
        at.loop.convert(TO_PREFILL)
    assert refusal.value.status == 409
    assert not at.services.fleet.status("edge-1").is_draining


def test_an_engine_that_is_taken_out_is_given_up() -> None:
    """Its conversion ends, and nothing is left of it."""
    at = controlled()
    with at.services.fleet.load("edge-1"):
        at.look(Advice(5, (TO_PREFILL,)))
        del at.tree["engines"]["edge-1"]
        at.live.reload()
        at.look(Advice(5))
    assert at.changes()[-1] == ("given_up", "edge-1 is not converted to prefill: the configuration has changed")
    assert at.loop.overview()["conversions"] == []
